//! The arguments of a command: places in the buffer they arrived in, or bytes of their own when they outlive it.

/// Where an argument lies: offset and length.
pub(super) type Place = (u32, u32);

/// The arguments of a complete command, its name first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments<'a> {
    bytes: &'a [u8],
    places: &'a [Place],
}

impl<'a> Arguments<'a> {
    /// From the bytes that hold them and where they lie.
    pub(super) fn new(bytes: &'a [u8], places: &'a [Place]) -> Self {
        Self { bytes, places }
    }

    /// How many, the name included.
    pub(crate) fn len(self) -> usize {
        self.places.len()
    }

    /// One of them; empty if there are not so many, which the check of arity rules out.
    pub(crate) fn get(self, index: usize) -> &'a [u8] {
        let Some(&(offset, length)) = self.places.get(index) else { return &[] };
        &self.bytes[offset as usize..][..length as usize]
    }

    /// From one on.
    pub(crate) fn skip(self, count: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        let rest = self.places.get(count..).unwrap_or_default();
        rest.iter().map(move |&(offset, length)| &self.bytes[offset as usize..][..length as usize])
    }
}

/// Arguments that outlive the buffer they arrived in: those of a queued command.
#[derive(Clone, Debug)]
pub(crate) struct OwnedArguments {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

impl OwnedArguments {
    /// Copies them.
    pub(crate) fn copy(arguments: Arguments<'_>) -> Self {
        Self::collect(arguments.skip(0))
    }

    /// From the arguments one by one.
    pub(crate) fn collect<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut owned = Self { bytes: Vec::new(), places: Vec::new() };
        for argument in arguments {
            owned.places.push(place(owned.bytes.len(), argument.len()));
            owned.bytes.extend_from_slice(argument);
        }
        owned
    }

    /// As they were.
    pub(crate) fn borrow(&self) -> Arguments<'_> {
        Arguments { bytes: &self.bytes, places: &self.places }
    }

    /// Bytes they take.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + self.places.len() * size_of::<Place>()
    }
}

pub(super) fn place(offset: usize, length: usize) -> Place {
    let narrow = |number| u32::try_from(number).expect("the query buffer is limited to 4 GiB");
    (narrow(offset), narrow(length))
}
