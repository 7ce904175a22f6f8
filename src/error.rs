//! The one public error: what kind it is, where it happened, and the way out.

use std::error::Error as StdError;
use std::fmt;

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by who can mend it.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A file or folder could not be read or written.
    Io,
    /// A file's content is not what its format demands.
    Malformed,
    /// The model or request asks for something relprop does not do.
    Unsupported,
    /// Shapes do not fit together.
    Shape,
    /// Values are not usable: NaN, infinity, a wrong element type, an empty batch.
    Data,
    /// An argument is out of its range or names something that is not there.
    Argument,
    /// Memory or a device limit does not suffice.
    Limit,
    /// A device is missing, was lost, or refused the work.
    Device,
    /// A promise inside relprop was broken: please report it.
    Internal,
}

/// An error with its place (file or node), the shapes in its message, and the remedy.
///
/// `Display` prints the message, then `node:` and `help:` lines where known.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    node: Option<String>,
    help: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` is a lower-case sentence that names the place and the shapes.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), node: None, help: None, source: None }))
    }

    /// Names the node (its path and operator) where it happened; the innermost name stays.
    #[must_use]
    pub fn at(mut self, node: impl Into<String>) -> Self {
        self.0.node.get_or_insert_with(|| node.into());
        self
    }

    /// Says the way out; the innermost advice stays.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.get_or_insert_with(|| help.into());
        self
    }

    /// Puts a place (for example a file name) in front of the message.
    #[must_use]
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.0.message = format!("{place}: {}", self.0.message);
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The category, for callers that react to it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without node and help.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The node where it happened, if one is known.
    pub fn node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }

    /// The advice, if there is one.
    pub fn advice(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    pub(crate) fn shape(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Shape, message)
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Argument, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message).help("this is a fault in relprop; please report it with the model")
    }
}

/// An error for a name that is not there, with the nearest known one.
pub(crate) fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known.iter().max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    let error = Error::argument(format!("there is no {what} `{name}`"));
    const LISTED: usize = 16;
    match near {
        None => error,
        Some(near) if known.len() > LISTED => error.help(format!("did you mean `{near}`?")),
        Some(near) => error.help(format!("did you mean `{near}`? known are {}", known.join(", "))),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(node) = &self.0.node {
            write!(f, "\n  node: {node}")?;
        }
        if let Some(help) = &self.0.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_node_and_advice_stay() {
        let error = Error::shape("3 does not fit 4").at("/fc1").at("/outer").help("transpose").help("retry");
        assert_eq!(error.to_string(), "3 does not fit 4\n  node: /fc1\n  help: transpose");
        assert_eq!(error.kind(), ErrorKind::Shape);
    }
}
