//! A node's attributes by name, with ONNX's defaults.

use super::schema::{AttributeProto, TensorProto};
use crate::error::{Error, ErrorKind, Result};

/// The attributes of one node.
pub(super) struct Attributes(pub Vec<AttributeProto>);

impl Attributes {
    fn find(&self, name: &str) -> Option<&AttributeProto> {
        self.0.iter().find(|attribute| attribute.name == name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.find(name).map_or(default, |attribute| attribute.i)
    }

    pub fn optional_int(&self, name: &str) -> Option<i64> {
        self.find(name).map(|attribute| attribute.i)
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.find(name).map_or(default, |attribute| attribute.f)
    }

    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.find(name).map(|attribute| attribute.ints.clone())
    }

    pub fn floats(&self, name: &str) -> Option<Vec<f32>> {
        self.find(name).map(|attribute| attribute.floats.clone())
    }

    /// A string attribute; bytes that are not UTF-8 become the replacement character.
    pub fn text(&self, name: &str) -> Option<String> {
        self.find(name).map(|attribute| String::from_utf8_lossy(&attribute.s).into_owned())
    }

    /// Takes a tensor attribute out, so that its elements are not copied.
    pub fn take_tensor(&mut self, name: &str) -> Result<Option<TensorProto>> {
        let Some(attribute) = self.0.iter_mut().find(|attribute| attribute.name == name) else { return Ok(None) };
        let missing = || Error::new(ErrorKind::Malformed, format!("the attribute `{name}` holds no tensor"));
        attribute.t.take().map(|tensor| Some(*tensor)).ok_or_else(missing)
    }
}
