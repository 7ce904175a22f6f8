//! What the environment says about devices: only the program reads it, the library never.
//!
//! `etcetera` knows where each system keeps what may be made again. `directories` knows it too, with a dependency under the MPL.

use std::env;
use std::path::PathBuf;

use relprop::gpu::DeviceOptions;
use relprop::wgpu::Backends;
use relprop::{Error, ErrorKind, Result};

use super::model::usage;

/// The graphics interfaces to look for adapters in, separated by commas.
const INTERFACES: &str = "WGPU_BACKEND";
/// A folder for the text of every kernel that runs.
const SHADERS: &str = "RELPROP_DUMP_SHADERS";
/// A folder that keeps compiled kernels and what `relprop tune` chose from one run to the next.
pub const CACHE: &str = "RELPROP_CACHE";

/// The options for an adapter of this name, or for the best one.
///
/// # Errors
/// [`ErrorKind::Argument`] if a variable makes no sense, [`ErrorKind::Io`] if the folder for kernels cannot be made.
pub fn device_options(adapter: Option<String>) -> Result<DeviceOptions> {
    Ok(DeviceOptions {
        adapter,
        interfaces: interfaces()?,
        dump_shaders: shader_folder()?,
        cache: cache_folder(),
        ..DeviceOptions::default()
    })
}

fn interfaces() -> Result<Option<Backends>> {
    let Some(text) = env::var_os(INTERFACES).filter(|text| !text.is_empty()) else { return Ok(None) };
    let text = text.to_string_lossy();
    let known = Backends::VULKAN | Backends::METAL | Backends::DX12;
    let mut interfaces = Backends::empty();
    for name in text.split(',') {
        let named = Backends::from_comma_list(name) & known;
        if named.is_empty() {
            return Err(usage(
                format!("{INTERFACES}={text}: `{}` is no graphics interface that relprop uses", name.trim()),
                "give vulkan, metal or dx12, or several separated by commas; or unset it",
            ));
        }
        interfaces |= named;
    }
    Ok(Some(interfaces))
}

/// The folder that is told, or the program's own where the system keeps what may be made again; none where there is no home.
fn cache_folder() -> Option<PathBuf> {
    use etcetera::BaseStrategy as _;
    let told = env::var_os(CACHE).filter(|text| !text.is_empty()).map(PathBuf::from);
    told.or_else(|| Some(etcetera::base_strategy::choose_native_strategy().ok()?.cache_dir().join("relprop")))
}

fn shader_folder() -> Result<Option<PathBuf>> {
    let Some(folder) = env::var_os(SHADERS).filter(|text| !text.is_empty()).map(PathBuf::from) else {
        return Ok(None);
    };
    std::fs::create_dir_all(&folder).map_err(|error| {
        Error::new(ErrorKind::Io, format!("{SHADERS}={}: the folder cannot be made: {error}", folder.display()))
            .help("name another one, or unset it")
            .caused_by(error)
    })?;
    Ok(Some(folder))
}
