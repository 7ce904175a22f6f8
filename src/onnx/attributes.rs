//! A node's attributes by name, with ONNX's defaults.

use super::schema::{AttributeProto, TensorProto};
use crate::error::{Error, ErrorKind, Result};

/// The attributes of one node.
pub(super) struct Attributes(pub Vec<AttributeProto>);

/// `AttributeProto.AttributeType`, as far as relprop reads it.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Float = 1,
    Int = 2,
    String = 3,
    Tensor = 4,
    Floats = 6,
    Ints = 7,
}

impl Kind {
    /// ONNX's name for a type's code.
    fn name(code: i32) -> String {
        const NAMES: [&str; 9] =
            ["UNDEFINED", "FLOAT", "INT", "STRING", "TENSOR", "GRAPH", "FLOATS", "INTS", "STRINGS"];
        let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
        name.map_or_else(|| format!("type {code}"), |name| (*name).to_owned())
    }

    /// Refuses an attribute of another type, whose field for this one would read as 0.
    fn check(self, attribute: &AttributeProto) -> Result<()> {
        // Files of ONNX's first version do not say the type.
        if attribute.r#type == 0 || attribute.r#type == self as i32 {
            return Ok(());
        }
        let (have, want) = (Kind::name(attribute.r#type), Kind::name(self as i32));
        let message = format!("the attribute `{}` is {have}, not {want}", attribute.name);
        Err(Error::new(ErrorKind::Malformed, message)
            .help("the file is damaged or was edited by hand; onnx.checker says more, or export the model again"))
    }
}

impl Attributes {
    fn find(&self, name: &str, kind: Kind) -> Result<Option<&AttributeProto>> {
        let found = self.0.iter().find(|attribute| attribute.name == name);
        found.map_or(Ok(()), |attribute| kind.check(attribute))?;
        Ok(found)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|attribute| attribute.name == name)
    }

    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.optional_int(name)?.unwrap_or(default))
    }

    pub fn optional_int(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.find(name, Kind::Int)?.map(|attribute| attribute.i))
    }

    pub fn float(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.find(name, Kind::Float)?.map_or(default, |attribute| attribute.f))
    }

    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        Ok(self.find(name, Kind::Ints)?.map(|attribute| attribute.ints.clone()))
    }

    pub fn floats(&self, name: &str) -> Result<Option<Vec<f32>>> {
        Ok(self.find(name, Kind::Floats)?.map(|attribute| attribute.floats.clone()))
    }

    /// A string attribute; bytes that are not UTF-8 become the replacement character.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        Ok(self.find(name, Kind::String)?.map(|attribute| String::from_utf8_lossy(&attribute.s).into_owned()))
    }

    /// Takes a tensor attribute out, so that its elements are not copied.
    pub fn take_tensor(&mut self, name: &str) -> Result<Option<TensorProto>> {
        let Some(attribute) = self.0.iter_mut().find(|attribute| attribute.name == name) else { return Ok(None) };
        Kind::Tensor.check(attribute)?;
        let missing = || {
            Error::new(ErrorKind::Malformed, format!("the attribute `{name}` holds no tensor"))
                .help("the file is damaged or was edited by hand; export the model again")
        };
        attribute.t.take().map(|tensor| Some(*tensor)).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: Kind, code: i32) -> Attributes {
        let attribute = AttributeProto { name: "alpha".to_owned(), i: 2, f: 0.5, r#type: code, ..Default::default() };
        assert_eq!(kind.check(&attribute).is_ok(), code == 0 || code == kind as i32);
        Attributes(vec![attribute])
    }

    #[test]
    fn an_attribute_of_another_type_is_no_number() {
        assert_eq!(one(Kind::Float, 1).float("alpha", 1.0).unwrap(), 0.5);
        assert_eq!(one(Kind::Float, 0).float("alpha", 1.0).unwrap(), 0.5);
        assert_eq!(one(Kind::Float, 1).float("beta", 1.0).unwrap(), 1.0);
        let error = one(Kind::Float, 2).float("alpha", 1.0).unwrap_err();
        assert_eq!((error.kind(), error.advice().is_some()), (ErrorKind::Malformed, true));
        assert!(error.message().contains("`alpha` is INT, not FLOAT"), "{error}");
        assert!(one(Kind::Int, 1).int("alpha", 0).is_err() && one(Kind::Ints, 2).ints("alpha").is_err());
        assert!(one(Kind::Tensor, 4).take_tensor("alpha").unwrap_err().advice().is_some());
    }
}
