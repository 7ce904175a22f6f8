//! Colour maps: zennit's, matplotlib's, and any that a string describes.
//!
//! A map is written in zennit's notation: colours `RGB` or `RRGGBB` from 00 to ff, separated by commas, each with an
//! optional place `ii:` or `i:` in ascending order; colours without one are spread evenly between their neighbours.
//! matplotlib's tables are held in the same notation, at most 1/255 from the originals
//! (tests/fixtures/colormaps/make.py derives them), so that one reader serves both and no table crate is needed.

use std::str::FromStr;

use crate::error::{Error, Result};

/// zennit's maps.
const ZENNIT: [(&str, &str); 11] = [
    ("gray", "000,fff"),
    ("wred", "fff,f00"),
    ("wblue", "fff,00f"),
    ("hot", "000,f00,ff0,fff"),
    ("cold", "000,00f,0ff"),
    ("coldnhot", "0ff,00f,80:000,f00,ff0,fff"),
    ("bwr", "00f,80:fff,f00"),
    ("france", "0055a4,80:fff,ef4135"),
    ("seismic", "0000d0,80:d0d0d0,d00000"),
    ("coolio", "00d0d0,80:d0d0d0,d000d0"),
    ("coleus", "00d000,80:d0d0d0,d000d0"),
];

/// matplotlib's maps, as lines between the fewest colours.
#[rustfmt::skip]
const MATPLOTLIB: [(&str, &str); 11] = [
    ("RdBu", "00:67001f,1a:b3192c,34:d7634f,4d:f4a683,66:fddbc7,7f:f7f6f6,81:f5f6f7,99:d1e5f0,b3:90c4dd,cc:4393c3,e6:2065ab,ff:053061"),
    ("bwr", "00:0000ff,7f:fefeff,81:fffcfc,ff:ff0000"),
    ("coolwarm", "00:3b4cc0,11:4f69d9,21:6384eb,33:7b9ff9,45:94b6ff,53:a7c5fe,62:bbd1f8,72:cedaeb,7f:dcdddd,91:edd2c3,a1:f5c2aa,ad:f7b497,ba:f6a283,cc:ee8468,de:df634e,ef:cb3e38,f7:c0282f,ff:b40426"),
    ("gray", "00:000000,ff:ffffff"),
    ("hot", "00:0b0000,5d:ff0000,be:fffe00,ff:ffffff"),
    ("inferno", "00:000004,0e:09061f,1b:190c3e,25:290b55,2c:360961,36:470b6a,43:5c126e,58:7d1e6d,6e:a02a63,80:bc3754,99:dd513a,ac:ef6c23,be:f98b0b,c7:fb9b06,cf:fcaa0f,de:f9c72f,ed:f3e55d,f6:f2f482,fe:fafda1,ff:fcffa4"),
    ("jet", "00:000080,1c:0000ff,20:0000ff,57:00dcfe,5a:02e8f4,60:16ffe1,a3:eeff09,a6:f8f500,a8:feed00,e3:ff1300,e8:e80000,ff:800000"),
    ("magma", "00:000004,07:03030f,1b:160f3b,27:271258,33:3b0f70,3e:4e117b,50:6a1c81,69:912b81,81:b83779,97:db476a,a4:eb5760,ae:f4675c,bd:fb835f,d2:feaa74,f0:fde2a3,ff:fcfdbf"),
    ("plasma", "00:0d0887,05:1b068d,13:370499,25:5502a4,35:6e00a8,44:8405a7,54:9a169f,68:b32c8e,8a:d5536f,aa:ed7953,c4:fa9b3d,da:febb2b,eb:fbd724,fb:f2f227,fe:f0f724,ff:f0f921"),
    ("seismic", "00:00004c,40:0101ff,7f:fdfdff,80:fffdfd,bf:ff0101,ff:800000"),
    ("viridis", "00:440154,0f:481769,1e:472a7a,2e:433e85,43:39558c,5f:2c718e,7f:21908d,93:1fa287,a2:2ab07f,b2:42be71,c0:5ec962,d2:89d548,eb:cae11f,f3:dfe318,fd:f8e621,ff:fde725"),
];

/// What matplotlib's names begin with where zennit has a map of the same name.
const MATPLOTLIB_PREFIX: &str = "mpl:";

/// A course of colours from 0 to 1, linear between its points.
#[derive(Debug, Clone, PartialEq)]
pub struct ColorMap {
    /// Place (0 to 1, ascending) and colour.
    points: Vec<(f64, [u8; 3])>,
}

impl ColorMap {
    /// The names that [`from_str`](Self::from_str) knows: zennit's bare, matplotlib's behind `mpl:`.
    pub fn names() -> Vec<String> {
        let zennit = ZENNIT.iter().map(|(name, _)| (*name).to_owned());
        zennit.chain(MATPLOTLIB.iter().map(|(name, _)| format!("{MATPLOTLIB_PREFIX}{name}"))).collect()
    }

    /// The colour at `place`, 0 to 1; what is outside gets the end's colour. Components are rounded down, as zennit does.
    pub fn color(&self, place: f64) -> [u8; 3] {
        /// Far below one step of a component, far above the rounding of the line.
        const SLACK: f64 = 1e-9;
        let next = self.points.partition_point(|&(at, _)| at <= place);
        if next == 0 {
            return self.points[0].1;
        }
        let (from, low) = self.points[next - 1];
        let Some(&(to, high)) = self.points.get(next) else { return low };
        let weight = (place - from) / (to - from);
        std::array::from_fn(|i| {
            let (low, high) = (f64::from(low[i]), f64::from(high[i]));
            (low + (high - low) * weight + SLACK) as u8
        })
    }

    /// The 256 colours of a paletted picture. `level` 1 spans the whole map; above 1 the ends are reached earlier, below
    /// 1 only the middle is used.
    pub fn palette(&self, level: f32) -> [[u8; 3]; 256] {
        std::array::from_fn(|index| {
            let signed = (index as f64 / 127.5 - 1.0) * f64::from(level);
            self.color(((signed + 1.0) / 2.0).clamp(0.0, 1.0))
        })
    }
}

impl Default for ColorMap {
    /// `bwr`, zennit's default: blue, white, red.
    fn default() -> Self {
        ColorMap { points: vec![(0.0, [0, 0, 255]), (128.0 / 255.0, [255; 3]), (1.0, [255, 0, 0])] }
    }
}

impl FromStr for ColorMap {
    type Err = Error;

    /// A map by name (zennit's bare, matplotlib's bare or behind `mpl:`; zennit's first) or by its colours.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for a name that is not known, with the nearest that is, and
    /// for colours that cannot be read.
    fn from_str(source: &str) -> Result<Self> {
        let source = source.trim();
        if let Some(map) = find(source) {
            return Ok(map);
        }
        if source.contains(',') {
            return parse(source);
        }
        let names = Self::names();
        let nearest = names.iter().max_by(|a, b| {
            let likeness = |name: &str| {
                let bare = name.trim_start_matches(MATPLOTLIB_PREFIX);
                strsim::jaro_winkler(name, source).max(strsim::jaro_winkler(bare, source))
            };
            likeness(a).total_cmp(&likeness(b))
        });
        Err(Error::argument(format!("no colour map is named {source:?}")).help(format!(
            "did you mean {}? Known are {}; or give colours, for example 00f,fff,f00",
            nearest.map_or("bwr", String::as_str),
            names.join(", ")
        )))
    }
}

fn find(name: &str) -> Option<ColorMap> {
    let within =
        |maps: &[(&str, &str)], name: &str| maps.iter().find(|(known, _)| *known == name).map(|map| map.1.to_owned());
    let colors = match name.strip_prefix(MATPLOTLIB_PREFIX) {
        Some(name) => within(&MATPLOTLIB, name),
        None => within(&ZENNIT, name).or_else(|| within(&MATPLOTLIB, name)),
    };
    colors.and_then(|colors| parse(&colors).ok())
}

fn parse(source: &str) -> Result<ColorMap> {
    let refused = |what: String| {
        Error::argument(format!("colour map {source:?}: {what}"))
            .help("give at least two colours RGB or RRGGBB in hexadecimal, such as 00f,80:fff,f00")
    };
    let mut points: Vec<(Option<f64>, [u8; 3])> = Vec::new();
    for entry in source.split(',').map(str::trim) {
        let (place, color) = match entry.split_once(':') {
            Some((place, color)) => {
                let place = hex(place).ok_or_else(|| refused(format!("{place:?} is no place from 00 to ff")))?;
                (Some(f64::from(place) / 255.0), color)
            }
            None => (None, entry),
        };
        let components = color.is_ascii().then(|| match color.len() {
            3 => [hex(&color[..1]), hex(&color[1..2]), hex(&color[2..])],
            6 => [hex(&color[..2]), hex(&color[2..4]), hex(&color[4..])],
            _ => [None; 3],
        });
        let Some([Some(red), Some(green), Some(blue)]) = components else {
            return Err(refused(format!("{color:?} is no colour")));
        };
        points.push((place, [red, green, blue]));
    }
    if points.len() < 2 {
        return Err(refused("one colour makes no map".into()));
    }
    let last = points.len() - 1;
    points[0].0.get_or_insert(0.0);
    points[last].0.get_or_insert(1.0);
    let places = spread(&points.iter().map(|point| point.0).collect::<Vec<_>>());
    if places.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(refused("places must ascend".into()));
    }
    Ok(ColorMap { points: places.into_iter().zip(points).map(|(place, (_, color))| (place, color)).collect() })
}

/// Places for those that have none, evenly between the neighbours that have one; the first and last have one.
///
/// As zennit has it, they stand on whole 255ths, rounded down.
fn spread(places: &[Option<f64>]) -> Vec<f64> {
    let mut known = 0;
    let mut all: Vec<f64> = Vec::with_capacity(places.len());
    for (index, place) in places.iter().enumerate() {
        let Some(place) = *place else { continue };
        if index > 0 {
            let (start, steps) = (all[known], (index - known) as f64);
            all.extend(
                (1..index - known)
                    .map(|step| ((start + (place - start) * step as f64 / steps) * 255.0 + 1e-9).floor() / 255.0),
            );
        }
        all.push(place);
        known = index;
    }
    all
}

/// One or two hexadecimal digits; one stands for two equal ones.
fn hex(digits: &str) -> Option<u8> {
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let value = u8::from_str_radix(digits, 16).ok()?;
    if digits.len() == 1 { Some(value * 17) } else { Some(value) }
}
