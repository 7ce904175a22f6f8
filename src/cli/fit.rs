//! How the samples of a file lie in it: their number, their shape, and whether channels must move.

use relprop::input::ImageLayout;
use relprop::{Error, ErrorKind, Result, Shape, Tensor};

/// What a file holds for an input.
pub struct Found {
    /// Its shape, with the axis of the samples if it has one.
    pub shape: Shape,
    /// What its values are.
    pub content: Content,
    /// What errors call it.
    pub place: String,
}

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Numbers as the network reads them.
    Numbers,
    /// The pixels of a uint8 array.
    Pixels,
    /// Decoded pictures.
    Pictures,
}

/// How a file's samples become the network's.
#[derive(Debug, PartialEq, Eq)]
pub struct Fit {
    /// How many there are; none where the file is one sample without an axis for them.
    pub samples: Option<usize>,
    /// The shape of each in the file.
    pub given: Shape,
    /// How channels move, if the file has them at the other end.
    pub turn: Option<Turn>,
}

/// Channels that move from one end of a sample's axes to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The file has them last, the network first.
    ToFront,
    /// The file has them first, the network last.
    ToBack,
}

impl Turn {
    /// The layout that the network reads.
    pub fn layout(self) -> ImageLayout {
        match self {
            Turn::ToFront => ImageLayout::Nchw,
            Turn::ToBack => ImageLayout::Nhwc,
        }
    }

    /// The turn that undoes this one.
    pub fn back(self) -> Turn {
        match self {
            Turn::ToFront => Turn::ToBack,
            Turn::ToBack => Turn::ToFront,
        }
    }

    fn shape(self, dims: [usize; 3]) -> [usize; 3] {
        let [a, b, c] = dims;
        match self {
            Turn::ToFront => [c, a, b],
            Turn::ToBack => [b, c, a],
        }
    }

    /// Moves the channels of samples [N, …, three axes].
    pub fn apply<T: Copy>(self, samples: &Tensor<T>) -> Tensor<T> {
        let rank = samples.shape().rank();
        let lead = rank.saturating_sub(3);
        let end = match self {
            Turn::ToFront => [lead + 2, lead, lead + 1],
            Turn::ToBack => [lead + 1, lead + 2, lead],
        };
        let order: Vec<usize> = (0..lead).chain(end).collect();
        samples.transpose(&order)
    }
}

/// How the samples of `found` become those of the input `input`, of shape `sample`. `layout` is `--layout`.
///
/// Axes of extent 1 may be missing or too many. Pixels may also lie in one row, here or there; any other shape of the
/// same size would scramble them.
///
/// # Errors
/// If they do not fit.
pub fn fit(found: &Found, sample: &Shape, input: &str, layout: Option<ImageLayout>) -> Result<Fit> {
    let dims = found.shape.dims();
    let (is_array, is_pixels) = (found.content == Content::Pixels, found.content != Content::Numbers);
    if found.shape == *sample {
        return Ok(Fit { samples: None, given: sample.clone(), turn: None });
    }
    let fits = |given: &[usize]| {
        let is_flat = is_row(sample) || (is_array && whole(given).len() <= 1);
        let is_same = given == sample.dims() || whole(given) == whole(sample.dims());
        is_same || (is_pixels && is_flat && !given.is_empty() && Shape::new(given).count() == sample.count())
    };
    let turn = |given: &[usize]| turn(given, sample).filter(|_| is_array);
    let asked = |given: &[usize]| turn(given).filter(|turn| layout == Some(turn.back().layout()));
    let row = dims.split_first();
    if let Some((&samples, row)) = row.filter(|(_, row)| fits(row) || asked(row).is_some()) {
        let turn = if fits(row) { None } else { asked(row) };
        return Ok(Fit { samples: Some(samples), given: Shape::new(row), turn });
    }
    if fits(dims) || asked(dims).is_some() {
        let turn = if fits(dims) { None } else { asked(dims) };
        return Ok(Fit { samples: None, given: found.shape.clone(), turn });
    }
    let possible = row.and_then(|(_, row)| turn(row)).or_else(|| turn(dims));
    Err(misfit(found, sample, input, possible))
}

fn misfit(found: &Found, sample: &Shape, input: &str, possible: Option<Turn>) -> Error {
    let wanted: Vec<String> =
        std::iter::once("N".to_owned()).chain(sample.dims().iter().map(usize::to_string)).collect();
    let more = match (possible, found.content) {
        (Some(Turn::ToFront), _) => ", or say with --layout nhwc that this one has its channels last",
        (Some(Turn::ToBack), _) => ", or say with --layout nchw that this one has its channels first",
        (None, Content::Numbers) => "",
        (None, Content::Pixels) => "; transpose it if its axes are in another order",
        (None, Content::Pictures) => ", or check --resize, --crop, --channels and --layout",
    };
    let message = format!(
        "{}: shape {} does not fit the input `{input}`, which reads samples of shape {sample}",
        found.place, found.shape
    );
    Error::new(ErrorKind::Shape, message).help(format!("give an array of shape [{}]{more}", wanted.join(", ")))
}

/// The turn that makes a sample's shape of a file's.
fn turn(given: &[usize], sample: &Shape) -> Option<Turn> {
    let (&[a, b, c], sample) = (given, sample.dims()) else { return None };
    [Turn::ToFront, Turn::ToBack].into_iter().find(|turn| turn.shape([a, b, c]) == *sample)
}

/// Whether samples have one axis, but for those of extent 1.
pub fn is_row(sample: &Shape) -> bool {
    whole(sample.dims()).len() <= 1
}

/// Extents without those of 1.
pub fn whole(dims: &[usize]) -> Vec<usize> {
    dims.iter().copied().filter(|&dim| dim != 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file's shape and content, and the network's shape.
    type Case = (&'static [usize], Content, &'static [usize]);

    fn fitted(shape: &[usize], content: Content, sample: &[usize], layout: Option<ImageLayout>) -> Result<Fit> {
        let found = Found { shape: Shape::new(shape), content, place: "x.npy".into() };
        fit(&found, &Shape::new(sample), "image", layout)
    }

    #[test]
    fn only_shapes_that_keep_pixels_in_place_are_taken() {
        use Content::{Numbers, Pictures, Pixels};
        let sample: &'static [usize] = &[3, 224, 224];
        let taken: [(Case, Option<usize>); 8] = [
            ((&[7, 3, 224, 224], Pixels, sample), Some(7)),
            ((&[3, 224, 224], Pixels, sample), None),
            ((&[2, 150_528], Pixels, sample), Some(2)),
            ((&[2, 28, 28], Pixels, &[784]), Some(2)),
            ((&[2, 28, 28], Numbers, &[1, 28, 28]), Some(2)),
            ((&[28, 28], Pixels, &[784]), None),
            ((&[2, 28, 28, 1], Pixels, &[1, 28, 28]), Some(2)),
            ((&[2, 1, 28, 28], Pictures, &[784]), Some(2)),
        ];
        for ((shape, content, sample), samples) in taken {
            let fit = fitted(shape, content, sample, None).unwrap();
            assert_eq!((fit.samples, fit.turn), (samples, None), "{shape:?} {content:?}");
        }
        let refused: [Case; 6] = [
            (&[7, 224, 224, 3], Pixels, sample),
            (&[7, 3, 448, 112], Pixels, sample),
            (&[1, 3, 112, 448], Pictures, sample),
            (&[2, 5, 4], Pixels, &[1, 4, 5]),
            (&[2, 784], Numbers, &[1, 28, 28]),
            (&[1, 1, 1, 20], Pictures, &[1, 4, 5]),
        ];
        for (shape, content, sample) in refused {
            let error = fitted(shape, content, sample, None).unwrap_err();
            assert!(error.advice().is_some(), "{shape:?} {content:?}: {error}");
        }
    }

    #[test]
    fn channels_move_where_layout_says_that_they_must() {
        let (nchw, nhwc) = (Some(ImageLayout::Nchw), Some(ImageLayout::Nhwc));
        let fit = fitted(&[7, 224, 200, 3], Content::Pixels, &[3, 224, 200], nhwc).unwrap();
        assert_eq!((fit.samples, fit.turn), (Some(7), Some(Turn::ToFront)));
        let fit = fitted(&[3, 224, 200], Content::Pixels, &[224, 200, 3], nchw).unwrap();
        assert_eq!((fit.samples, fit.turn), (None, Some(Turn::ToBack)));
        let error = fitted(&[7, 224, 200, 3], Content::Pixels, &[3, 224, 200], nchw).unwrap_err();
        assert!(error.advice().unwrap().contains("--layout nhwc"), "{error}");
        let error = fitted(&[1, 224, 200, 3], Content::Pictures, &[3, 224, 200], nhwc).unwrap_err();
        assert!(error.advice().unwrap().contains("--layout"), "{error}");
    }

    #[test]
    fn a_turn_is_undone_by_its_reverse() {
        let pixels = Tensor::new([1, 2, 2, 3], (0..12u8).collect()).unwrap();
        let turned = Turn::ToFront.apply(&pixels);
        assert_eq!(turned.shape().dims(), [1, 3, 2, 2]);
        assert_eq!(turned.data(), [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
        assert_eq!(Turn::ToBack.apply(&turned), pixels);
    }
}
