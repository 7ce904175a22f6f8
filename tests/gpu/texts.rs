//! The kernels' texts: valid WGSL that becomes SPIR-V, Metal's and Direct3D's language, and not too many of them.

use std::collections::BTreeMap;
use std::path::Path;

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use relprop::layers::Family;
use relprop::rules::Bounds;
use relprop::wgpu;

use super::*;

/// A device that neither compiles nor computes: a text is the same on every one, and a software adapter takes a second to
/// compile it. What the kernels compute, the other tests hold.
pub fn textual(change: impl FnOnce(&mut DeviceOptions)) -> Arc<Gpu> {
    // Chains read as many values as they have, as on real devices and not as WebGPU promises.
    let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 64, ..wgpu::Limits::default() };
    let mut options = DeviceOptions {
        adapter: Some("noop".to_owned()),
        interfaces: Some(wgpu::Backends::NOOP),
        limits: Some(limits),
        ..DeviceOptions::default()
    };
    change(&mut options);
    Arc::new(pollster::block_on(Gpu::open(&options)).unwrap())
}

/// Explains one sample of a network on a device that writes its kernels' texts down.
fn dump(gpu: &Arc<Gpu>, network: Network, composite: &Composite, ask: &Request) {
    let network = Arc::new(network);
    explain(&network, composite, Options { batch_size: Some(1), ..on(gpu) }, &inputs(&network, 1, 100), ask);
}

fn dumping(folder: &Path) -> Arc<Gpu> {
    textual(|options| options.dump_shaders = Some(folder.to_owned()))
}

pub fn texts(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap())
    };
    entries.map(read).collect()
}

fn validated(name: &str, text: &str) -> (naga::Module, ModuleInfo) {
    let module =
        naga::front::wgsl::parse_str(text).unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(text)));
    // No capability beyond what WebGPU has everywhere: reading two float16 of a word is among that.
    let reads_half = text.contains("unpack2x16float");
    let capabilities = if reads_half { Capabilities::SHADER_FLOAT16_IN_FLOAT32 } else { Capabilities::empty() };
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(text)));
    (module, info)
}

fn translates_everywhere(name: &str, text: &str) {
    let (module, info) = validated(name, text);
    spv::write_vec(&module, &info, &spv::Options::default(), None).unwrap_or_else(|error| panic!("{name}: {error}"));
    let options = msl::Options { fake_missing_bindings: true, lang_version: (2, 0), ..msl::Options::default() };
    msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let options = hlsl::Options { fake_missing_bindings: true, ..hlsl::Options::default() };
    let (mut written, pipeline) = (String::new(), hlsl::PipelineOptions::default());
    hlsl::Writer::new(&mut written, &options, &pipeline)
        .write(&module, &info, None)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn one_network_takes_a_few_texts_however_many_layers_it_has() {
    for (preset, most) in [("epsilon", 8), ("epsilon-alpha2-beta1", 8), ("gamma", 16)] {
        let gpu = textual(|_| {});
        let widths = [16, 24, 32, 24, 32, 24, 32, 24, 10];
        let composite = Composite::preset(preset).unwrap();
        dump(&gpu, mlp(79, &widths, Activation::Relu, true), &composite, &Request::new(Targets::ArgMax));
        assert!(gpu.kernels() <= most, "{preset} takes {} texts", gpu.kernels());
    }
}

/// With the shapes of tile that software takes; `src/gpu/windows.rs` counts the texts of all shapes on ResNet-50.
#[test]
fn a_residual_network_takes_few_texts_under_each_preset() {
    let network = bottlenecks(78);
    for preset in PRESETS {
        let gpu = textual(|_| {});
        let composite = Composite::preset(preset).unwrap().with_input_bounds(bounds());
        dump(&gpu, network.clone(), &composite, &Request::new(Targets::ArgMax));
        println!("{preset}: {}", gpu.kernels());
        assert!((10..=40).contains(&gpu.kernels()), "{preset} takes {} texts", gpu.kernels());
    }
}

#[test]
fn texts_are_few_and_valid_and_translate_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let gpu = dumping(folder.path());
    let plain = Request::new(Targets::ArgMax);
    let several = Request::new(Targets::Top(2)).report(true).keep("dense");
    let dump_preset = |preset: &str| {
        let composite = Composite::preset(preset).unwrap().with_input_bounds(bounds());
        for ask in [&plain, &several] {
            // Numbers differ and widths do, whole vectors or not; the texts are for all of them.
            for widths in [[9, 14, 8, 4], [20, 32, 16, 4], [300, 100, 30, 10]] {
                dump(&gpu, mlp(80, &widths, Activation::Relu, true), &composite, ask);
            }
            if fits_tangle(preset) {
                dump(&gpu, tangle(81), &composite, ask);
            }
        }
    };
    ["epsilon", "epsilon-plus", "zero", "gradient", "gradient-x-input"].into_iter().for_each(dump_preset);
    let of_plain_presets = texts(folder.path()).len();
    assert!(of_plain_presets <= 150, "{of_plain_presets} texts");

    PRESETS.into_iter().for_each(dump_preset);
    let of_presets = texts(folder.path()).len();
    println!("{of_plain_presets} and {of_presets} texts for five and {} presets", PRESETS.len());
    // Each preset brings epilogues of its own; what one network takes is above.
    assert!(of_presets <= 16 * PRESETS.len(), "{of_presets} texts");

    let zbox = || {
        let bounds = Bounds { low: Arc::new(Tensor::scalar(-1.0)), high: Arc::new(Tensor::scalar(1.0)) };
        LinearRule::zbox(bounds, damped())
    };
    for rule in every_rule() {
        let composite = composite_of(rule.clone()).with_first(Selector::First, Rule::Linear(zbox()));
        dump(&gpu, mlp(82, &[9, 14, 8, 4], Activation::Tanh, true), &composite, &several);
        let affine_too = composite.with_first(Selector::Family(Family::Affine), Rule::Linear(rule));
        dump(&gpu, tangle(83), &affine_too, &plain);
    }
    for activation in [
        Activation::LeakyRelu { slope: 0.2 },
        Activation::Sigmoid,
        Activation::Erf,
        Activation::Softplus { beta: 2.0 },
        Activation::Gelu(GeluForm::Erf),
        Activation::Gelu(GeluForm::Tanh),
        Activation::Elu { alpha: 0.75 },
        Activation::Selu { alpha: 1.5, gamma: 1.125 },
        Activation::Celu { alpha: 0.5 },
        Activation::Silu { beta: 1.0 },
        Activation::HardSigmoid { slope: 0.25, offset: 0.5 },
        Activation::HardSwish,
        Activation::Mish,
        Activation::Clip { low: 0.0, high: 0.5 },
        Activation::ThresholdedRelu { threshold: 0.25 },
        Activation::Softsign,
        Activation::Exp,
        Activation::Abs,
        Activation::Power { offset: 6.0, exponent: -0.75 },
        Activation::Power { offset: 0.0, exponent: 2.0 },
        Activation::Power { offset: 6.0, exponent: 0.5 },
        Activation::Power { offset: 6.0, exponent: -0.5 },
        Activation::Power { offset: 6.0, exponent: -1.0 },
        Activation::Power { offset: 0.0, exponent: 3.0 },
    ] {
        let composite = Composite::preset("gradient-x-input").unwrap();
        dump(&gpu, mlp(84, &[6, 13, 7, 3], activation, true), &composite, &plain);
    }
    let epsilon = composite_of(LinearRule::epsilon(damped()));
    dump(&gpu, tokens(85), &epsilon, &several);
    dump(&gpu, wide_sum(86, 20), &epsilon, &several);
    let ids = Tensor::from_fn([1, 3], |i| i as i64);
    let network = Arc::new(words(87));
    let x = Numbers(4).tensor(&[1, 5]);
    explainer(&network, &epsilon, Options { batch_size: Some(1), ..on(&gpu) })
        .explain_with(&[Input::from(&ids), Input::from(&x)], &plain)
        .unwrap();

    for (_, network) in convolutional(88) {
        dump(&gpu, network, &epsilon, &several);
    }

    let found = texts(folder.path());
    assert_eq!(found.len(), gpu.kernels(), "each kernel is written down once");
    for (name, text) in &found {
        translates_everywhere(name, text);
    }
    println!("{} texts in all", found.len());
}

#[test]
fn every_shape_of_tile_is_valid_and_translates_everywhere() {
    let composite = composite_of(LinearRule::gamma(0.25, damped()));
    for (tile, half_weights) in Tile::ALL.into_iter().flat_map(|tile| [(tile, false), (tile, true)]) {
        let folder = tempfile::tempdir().unwrap();
        let gpu = textual(|options| {
            options.dump_shaders = Some(folder.path().to_owned());
            options.tile = Some(tile);
            options.half_weights = half_weights;
        });
        dump(&gpu, mlp(88, &[9, 12, 3], Activation::Relu, true), &composite, &Request::new(Targets::Top(2)));
        dump(&gpu, residual_convnet(89), &composite, &Request::new(Targets::Top(2)));
        let found = texts(folder.path());
        for kind in ["linear-backward", "convolve-forward", "convolve-backward"] {
            assert!(found.keys().any(|name| name.starts_with(kind)), "{tile:?}, {kind}");
        }
        found.iter().for_each(|(name, text)| translates_everywhere(name, text));
    }
}
