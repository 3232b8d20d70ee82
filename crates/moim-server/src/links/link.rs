//! One connection to a peer after the hellos: its out buffer, and the tasks that read it and write what one attempt
//! could not.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;

use moim_core::NodeId;
use moim_node::Input;
use moim_node::membership::Hello;
use moim_node::message::Message;
use moim_node::wire;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::frames::{BadFrame, FrameBuffer};
use super::last_write::LastWrite;
use super::{Dialed, Links};
use crate::out::Out;

/// Bytes that may wait for a peer that does not read. With one more on top the connection is closed: the node then
/// counts the peer as unreachable, and what it missed is owed to it. One frame may exceed it.
pub(super) const OUT_BYTES_MAX: usize = 32 << 20;

/// Tells the links of one node apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkId(pub(super) u64);

/// A connection over which both sides have said hello.
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) peer: NodeId,
    /// The run of the peer's process.
    pub(super) run: u64,
    pub(super) dialed: Dialed,
    /// Where the peer's end is, for the log.
    pub(super) address: String,
    /// What the peer said of itself, until the link stands.
    hello: RefCell<Option<Hello>>,
    writer: OwnedWriteHalf,
    out: RefCell<Out>,
    state: Cell<OutState>,
    /// Wakes the writer task: the kernel did not take everything.
    leftover: Notify,
    heard: Cell<Instant>,
    tasks: RefCell<Vec<AbortHandle>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum OutState {
    #[default]
    Empty,
    /// Something waits for the end of the pass.
    Dirty,
    /// Something waits for the peer to read; the writer task has it.
    Blocked,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} to {} at {}, dialed {:?}", self.id, self.peer, self.address, self.dialed)
    }
}

impl Link {
    /// A link that does not stand yet, and the half to start it with.
    pub(super) fn new(
        id: LinkId,
        dialed: Dialed,
        hello: Hello,
        stream: TcpStream,
    ) -> (Rc<Self>, OwnedReadHalf) {
        let address = stream
            .peer_addr()
            .map_or_else(|error| error.to_string(), |address| address.to_string());
        let (reader, writer) = stream.into_split();
        let link = Self {
            id,
            peer: hello.info.member.node,
            run: hello.run,
            dialed,
            address,
            hello: RefCell::new(Some(hello)),
            writer,
            out: RefCell::default(),
            state: Cell::default(),
            leftover: Notify::new(),
            heard: Cell::new(Instant::now()),
            tasks: RefCell::default(),
        };
        (Rc::new(link), reader)
    }

    /// Whether both sides use it (rule 3 of the module).
    pub(super) fn stands(&self) -> bool {
        self.hello.borrow().is_none()
    }

    /// From now on both sides use it; says what the peer said of itself, if they did not before.
    pub(super) fn stand(&self) -> Option<Hello> {
        self.hello.take()
    }

    /// Starts reading and writing.
    pub(super) fn start(self: &Rc<Self>, links: &Rc<Links>, reader: OwnedReadHalf) {
        let (link, owner) = (Rc::clone(self), Rc::clone(links));
        let reading = tokio::task::spawn_local(async move {
            let why = link.read(&owner, reader).await;
            owner.close(&link, &why);
        });
        let (link, owner) = (Rc::clone(self), Rc::clone(links));
        let writing = tokio::task::spawn_local(async move {
            let why = link.write_leftovers(&owner).await;
            owner.close(&link, &why);
        });
        self.tasks.borrow_mut().extend([reading.abort_handle(), writing.abort_handle()]);
    }

    /// Stops reading and writing; the connection closes when the last holder lets go.
    pub(super) fn abort(&self) {
        for task in self.tasks.borrow_mut().drain(..) {
            task.abort();
        }
    }

    /// When something was last read.
    pub(super) fn heard(&self) -> Instant {
        self.heard.get()
    }

    #[cfg(test)]
    pub(super) fn pretend_heard(&self, at: Instant) {
        self.heard.set(at);
    }

    /// Bytes that the kernel has not taken.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.out.borrow().bytes()
    }

    /// Appends a message to a link that stands. Says whether it is the first to wait for the end of the pass; fails when
    /// the peer lets too much pile up.
    pub(super) fn push(&self, message: Message, last: &mut LastWrite) -> Result<bool, String> {
        assert!(self.stands(), "nothing is sent over a link that is coming about");
        if self.waiting_bytes() > OUT_BYTES_MAX {
            return Err(format!("it does not read: more than {OUT_BYTES_MAX} bytes wait for it"));
        }
        last.push(message, &mut self.out.borrow_mut());
        let first = self.state.get() == OutState::Empty;
        if first {
            self.state.set(OutState::Dirty);
        }
        Ok(first)
    }

    /// Writes and says how many bytes; what the kernel does not take is left to the writer task.
    pub(super) fn flush(&self) -> Result<usize, String> {
        if self.state.get() != OutState::Dirty {
            return Ok(0);
        }
        let taken = self.write()?;
        if self.state.get() == OutState::Blocked {
            self.leftover.notify_one();
        }
        Ok(taken)
    }

    /// Writes until the kernel takes no more.
    fn write(&self) -> Result<usize, String> {
        let mut out = self.out.borrow_mut();
        let mut taken = 0;
        while out.bytes() > 0 {
            match out.write(|parts| self.writer.try_write_vectored(parts)) {
                Ok((bytes, is_all)) => {
                    taken += bytes;
                    if !is_all {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        self.state.set(if out.bytes() == 0 { OutState::Empty } else { OutState::Blocked });
        Ok(taken)
    }

    async fn write_leftovers(&self, links: &Links) -> String {
        loop {
            self.leftover.notified().await;
            while self.state.get() == OutState::Blocked {
                if let Err(error) = self.writer.writable().await {
                    return error.to_string();
                }
                match self.write() {
                    Ok(bytes) => links.count_sent(bytes),
                    Err(why) => return why,
                }
            }
        }
    }

    /// Hands in every frame that arrives, as many at once as one read brings, until the connection ends; says why.
    async fn read(&self, links: &Links, mut reader: OwnedReadHalf) -> String {
        let mut frames = FrameBuffer::new(wire::FRAME_BYTES_MAX);
        let mut inputs = Vec::new();
        loop {
            match frames.fill(&mut reader).await {
                Ok(0) => return "it closed the connection".to_owned(),
                Ok(bytes) => {
                    self.heard.set(Instant::now());
                    links.count_received(bytes);
                }
                Err(error) => return error.to_string(),
            }
            let malformed = self.take_frames(&mut frames, &mut inputs).err();
            if !inputs.is_empty() {
                links.stand(self);
            }
            links.inbox.append(&mut inputs);
            if let Some(why) = malformed {
                return why.to_string();
            }
        }
    }

    fn take_frames(
        &self,
        frames: &mut FrameBuffer,
        inputs: &mut Vec<Input>,
    ) -> Result<(), BadFrame> {
        while let Some(message) = frames.next()? {
            inputs.push(Input::Peer(self.peer, message));
        }
        Ok(())
    }
}
