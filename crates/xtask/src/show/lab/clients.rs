//! Redis clients that others wrote, unchanged, in a namespace that reaches all nodes.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::super::process::run;
use super::super::stage::Stage;
use super::diary::{Diary, Kind, now_ms};
use super::{CLUSTER, Lab, REDIS, STRICT};

const PYTHON: &str = include_str!("client.py");
const NODE: &str = include_str!("client.js");
const INSTALL: Duration = Duration::from_mins(5);
/// Time for clients to notice that they should end.
const END: Duration = Duration::from_secs(15);
/// Until all clients have done something.
const BEGIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A client library.
#[derive(Clone, Copy)]
enum Library {
    RedisPy,
    IoRedis,
}

/// Installed libraries. Kept beside what was built, so that they are installed once.
pub(in super::super) struct Tools {
    place: PathBuf,
}

impl Tools {
    /// Installed, or the reason why not.
    pub(in super::super) fn install(stage: &Stage) -> Result<Result<Self, String>> {
        let built = stage.moim()?.parent().context("a binary lies in a directory")?;
        let tools = Self { place: built.join("show-clients") };
        fs::create_dir_all(&tools.place)?;
        fs::write(tools.place.join("client.py"), PYTHON)?;
        fs::write(tools.place.join("client.js"), NODE)?;
        if let Err(why) = tools.redis_py() {
            return Ok(Err(format!("redis-py in a virtual environment: {why:#}")));
        }
        if let Err(why) = tools.ioredis() {
            return Ok(Err(format!("ioredis from npm: {why:#}")));
        }
        Ok(Ok(tools))
    }

    fn redis_py(&self) -> Result<()> {
        let venv = self.place.join("venv");
        let python = venv.join("bin/python");
        let there = "import redis; print('  clients: redis-py', redis.__version__)";
        if tell(Command::new(&python).args(["-c", there])).is_ok() {
            return Ok(());
        }
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&venv);
        run(&mut make, INSTALL)?.successful().context("python3 -m venv")?;
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "redis"]);
        run(&mut pip, INSTALL)?.successful().context("pip install redis")?;
        tell(Command::new(&python).args(["-c", there]))
    }

    fn ioredis(&self) -> Result<()> {
        let there = "console.log('  clients: ioredis', require('ioredis/package.json').version)";
        let look = || tell(Command::new("node").args(["-e", there]).current_dir(&self.place));
        if look().is_ok() {
            return Ok(());
        }
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-fund", "--no-audit", "--no-save", "--silent", "ioredis"]);
        run(npm.current_dir(&self.place), INSTALL)?.successful().context("npm install ioredis")?;
        look()
    }

    fn command(&self, lab: &Lab<'_>, library: Library) -> Command {
        let (program, script) = match library {
            Library::RedisPy => (self.place.join("venv/bin/python"), "client.py"),
            Library::IoRedis => (PathBuf::from("node"), "client.js"),
        };
        let mut command = lab.network.among_clients(&program.display().to_string());
        command.arg(self.place.join(script)).current_dir(&self.place);
        command
    }
}

fn tell(command: &mut Command) -> Result<()> {
    let finished = run(command, INSTALL)?.successful()?;
    finished.stdout.lines().for_each(|line| println!("{line}"));
    Ok(())
}

/// Clients at work; ended when dropped.
pub(in super::super) struct Clients {
    running: Vec<Running>,
}

struct Running {
    library: &'static str,
    told: PathBuf,
    complained: PathBuf,
    child: Child,
}

impl Clients {
    /// Starts clients of both libraries, `workers` each, that know a list of nodes; waits until both have written.
    pub(in super::super) fn start(tools: &Tools, lab: &Lab<'_>, workers: usize) -> Result<Self> {
        Self::start_in_mode(tools, lab, ("list", workers))
    }

    /// As [`Self::start`]; they also send commands that read and write, and know what these must answer.
    pub(in super::super) fn start_updating(
        tools: &Tools,
        lab: &Lab<'_>,
        workers: usize,
    ) -> Result<Self> {
        Self::start_in_mode(tools, lab, ("updates", workers))
    }

    /// Adds clients of redis-py in the namespace in which nobody stands in for an owner.
    pub(in super::super) fn add_strict(
        &mut self,
        tools: &Tools,
        lab: &Lab<'_>,
        workers: usize,
    ) -> Result<()> {
        let command = tools.command(lab, Library::RedisPy);
        self.spawn(command, lab, Role { name: STRICT, mode: STRICT, workers })?;
        self.await_all()
    }

    fn start_in_mode(
        tools: &Tools,
        lab: &Lab<'_>,
        (mode, workers): (&'static str, usize),
    ) -> Result<Self> {
        let mut clients = Self { running: Vec::new() };
        for (library, name) in [(Library::RedisPy, "redis-py"), (Library::IoRedis, "ioredis")] {
            clients.spawn(tools.command(lab, library), lab, Role { name, mode, workers })?;
        }
        clients.await_all()?;
        Ok(clients)
    }

    fn spawn(&mut self, mut command: Command, lab: &Lab<'_>, role: Role) -> Result<()> {
        let Role { name, mode, workers } = role;
        let place = |end: &str| lab.scratch().join(format!("{name}.{end}"));
        let port = if mode == "cluster" { CLUSTER } else { REDIS };
        command.args([name, mode, &workers.to_string()]);
        command.args(lab.all().map(|node| lab.at(node, port).to_string()));
        let (told, complained) = (place("out"), place("err"));
        command.stdin(Stdio::piped());
        command.stdout(File::create(&told)?).stderr(File::create(&complained)?);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        self.running.push(Running { library: name, told, complained, child });
        Ok(())
    }

    /// All of them have written by now.
    fn await_all(&mut self) -> Result<()> {
        let deadline = Instant::now() + BEGIN;
        for running in &mut self.running {
            loop {
                let mut diary = Diary::default();
                running.add_to(&mut diary)?;
                if diary.count(Kind::Acknowledged, 0, u64::MAX) > 0 {
                    break;
                }
                running.check()?;
                ensure!(
                    Instant::now() < deadline,
                    "{} wrote nothing: {:?}",
                    running.library,
                    diary.events.first()
                );
                thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// What they saw so far.
    pub(in super::super) fn diary(&mut self) -> Result<Diary> {
        let mut diary = Diary::default();
        for running in &mut self.running {
            running.check()?;
            running.add_to(&mut diary)?;
        }
        diary.events.sort_by_key(|event| event.at_ms);
        Ok(diary)
    }

    /// Sends them back to the nodes that they began with, as when these are known to serve again.
    pub(in super::super) fn send_home(&mut self) -> Result<()> {
        for running in &mut self.running {
            let input = running.child.stdin.as_mut().context("input is open until the end")?;
            input.write_all(b"h").with_context(|| running.library)?;
        }
        Ok(())
    }

    /// Lets them work for a while; returns when that began and ended.
    pub(in super::super) fn work(&mut self, time: Duration) -> Result<(u64, u64)> {
        let from_ms = now_ms();
        thread::sleep(time);
        self.running.iter_mut().try_for_each(Running::check)?;
        Ok((from_ms, now_ms()))
    }

    /// Ends them; what they saw.
    pub(in super::super) fn finish(mut self) -> Result<Diary> {
        for running in &mut self.running {
            drop(running.child.stdin.take());
        }
        let deadline = Instant::now() + END;
        for running in &mut self.running {
            let status = loop {
                if let Some(status) = running.child.try_wait()? {
                    break status;
                }
                ensure!(Instant::now() < deadline, "{} does not end", running.library);
                thread::sleep(POLL);
            };
            ensure!(status.success(), "{}: {status}: {}", running.library, running.complaint());
        }
        let mut diary = Diary::default();
        self.running.iter().try_for_each(|running| running.add_to(&mut diary))?;
        diary.events.sort_by_key(|event| event.at_ms);
        Ok(diary)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for running in &mut self.running {
            // They may have ended already.
            drop(running.child.kill());
            drop(running.child.wait());
        }
    }
}

#[derive(Clone, Copy)]
struct Role {
    name: &'static str,
    mode: &'static str,
    workers: usize,
}

impl Running {
    fn add_to(&self, diary: &mut Diary) -> Result<()> {
        diary.add(self.library, &read(&self.told)?);
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}: {}", self.library, self.complaint()),
        }
    }

    fn complaint(&self) -> String {
        let said = read(&self.complained).unwrap_or_default();
        super::super::process::tail(&said)
    }
}

fn read(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}
