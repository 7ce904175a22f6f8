//! Compiles WGSL compute shaders with RADV's null winsys and prints the compiler's statistics. See README.md.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

use ash::vk;
use naga::back::pipeline_constants::process_overrides;
use naga::back::{spv, PipelineConstants};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy as Policy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage};

const ICD: &str = "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json";

struct Args {
    files: Vec<String>,
    family: String,
    checked: bool,
    isa: bool,
    /// The least share of multiply-adds among a kernel's vector instructions.
    least: Option<f64>,
    /// The fewest waves, where `least` is told.
    waves: u64,
    overrides: PipelineConstants,
}

fn parse_args() -> Args {
    let mut args = Args {
        files: vec![],
        family: "NAVI21".into(),
        checked: true,
        isa: false,
        least: None,
        waves: 8,
        overrides: Default::default(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--unchecked" => args.checked = false,
            "--isa" => args.isa = true,
            "--least" => args.least = Some(words.next().and_then(|share| share.parse().ok()).expect("--least SHARE")),
            "--waves" => args.waves = words.next().and_then(|waves| waves.parse().ok()).expect("--waves COUNT"),
            "--family" => args.family = words.next().expect("--family NAME"),
            "--set" => {
                let pair = words.next().expect("--set NAME=VALUE");
                let (name, value) = pair.split_once('=').expect("--set NAME=VALUE");
                args.overrides.insert(name.into(), value.parse().expect("VALUE is a number"));
            }
            _ => args.files.push(word),
        }
    }
    args
}

fn main() {
    let args = parse_args();
    if std::env::var_os("VK_ICD_FILENAMES").is_none() {
        std::env::set_var("VK_ICD_FILENAMES", ICD);
    }
    std::env::set_var("RADV_FORCE_FAMILY", &args.family);
    let mut failed = false;
    println!("| kernel | vgpr | spill | scratch | waves | lds | instr | hot | valu | fma | fma/valu | fma/hot |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for file in &args.files {
        let source = std::fs::read_to_string(file).expect("a readable WGSL file");
        let module =
            naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{file}: {}", e.emit_to_string(&source)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .validate(&module)
            .unwrap_or_else(|e| panic!("{file}: {e:?}"));
        for entry in module.entry_points.iter().filter(|e| e.stage == ShaderStage::Compute) {
            let (module, info) =
                process_overrides(&module, &info, Some((ShaderStage::Compute, &entry.name)), &args.overrides)
                    .expect("overrides");
            let words = spirv(&module, &info, &entry.name, args.checked);
            let report = unsafe { compile(&module, &words, &entry.name) };
            print_row(file, &entry.name, &report);
            failed |= args.least.is_some_and(|least| !report.is_good(least, args.waves));
            if args.isa {
                println!("\n{}\n", report.isa);
            }
        }
    }
    if failed {
        eprintln!("a kernel spills, has fewer than {} waves, or too few multiply-adds", args.waves);
        std::process::exit(1);
    }
}

fn spirv(module: &Module, info: &naga::valid::ModuleInfo, entry: &str, checked: bool) -> Vec<u32> {
    let index = if checked { Policy::Restrict } else { Policy::Unchecked };
    let options = spv::Options {
        lang_version: (1, 3),
        // With robustBufferAccess2 wgpu leaves buffers to the driver and clamps every other index.
        bounds_check_policies: BoundsCheckPolicies {
            index,
            buffer: Policy::Unchecked,
            image_load: Policy::Unchecked,
            binding_array: Policy::Unchecked,
        },
        force_loop_bounding: checked,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        ..Default::default()
    };
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry.into() };
    spv::write_vec(module, info, &options, Some(&pipeline)).expect("SPIR-V")
}

struct Report {
    stats: BTreeMap<String, u64>,
    isa: String,
}

impl Report {
    fn get(&self, name: &str) -> u64 {
        self.stats.get(name).copied().unwrap_or(0)
    }

    /// No spill, no scratch, so many waves and more, and `least` of the hot block's vector instructions are multiply-adds.
    fn is_good(&self, least: f64, waves: u64) -> bool {
        let Block { valu, fma, .. } = hot_block(&self.isa);
        let lost = self.get("Spilled VGPRs") + self.get("Spilled SGPRs") + self.get("Scratch size");
        lost == 0 && self.get("Subgroups per SIMD") >= waves && fma as f64 >= least * valu as f64
    }
}

fn print_row(file: &str, entry: &str, report: &Report) {
    let get = |name| report.get(name);
    let Block { all, valu, fma } = hot_block(&report.isa);
    let stem = std::path::Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
    println!(
        "| {stem}:{entry} | {} | {} | {} | {} | {} | {} | {all} | {valu} | {fma} | {:.2} | {:.2} |",
        get("VGPRs"),
        get("Spilled VGPRs") + get("Spilled SGPRs"),
        get("Scratch size"),
        get("Subgroups per SIMD"),
        get("LDS size"),
        get("Instructions"),
        fma as f64 / valu.max(1) as f64,
        fma as f64 / all.max(1) as f64
    );
}

/// What a straight-line block of machine code holds: instructions, vector ones among them, multiply-adds among those.
#[derive(Clone, Copy, Default)]
struct Block {
    all: usize,
    valu: usize,
    fma: usize,
}

/// The basic block that holds the most multiply-adds.
fn hot_block(isa: &str) -> Block {
    let (mut best, mut now) = (Block::default(), Block::default());
    for line in isa.lines() {
        if line.starts_with("BB") {
            now = Block::default();
        } else if line.starts_with('\t') {
            let word = line.trim_start();
            now.all += 1;
            now.valu += usize::from(word.starts_with("v_"));
            now.fma += usize::from(
                ["v_fma", "v_fmac", "v_pk_fma", "v_mad", "v_mac", "v_dot"].iter().any(|p| word.starts_with(p)),
            );
        }
        if now.fma >= best.fma && now.fma > 0 {
            best = now;
        }
    }
    best
}

unsafe fn compile(module: &Module, words: &[u32], entry: &str) -> Report {
    let vulkan = ash::Entry::load().expect("the Vulkan loader (libvulkan1)");
    let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
    let instance = vulkan
        .create_instance(&vk::InstanceCreateInfo::default().application_info(&app), None)
        .expect("a Vulkan instance");
    let gpu = *instance
        .enumerate_physical_devices()
        .expect("devices")
        .first()
        .expect("RADV's null device (mesa-vulkan-drivers)");
    let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
    let extensions = [ash::khr::pipeline_executable_properties::NAME.as_ptr()];
    let mut executable =
        vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
    let mut v12 = vk::PhysicalDeviceVulkan12Features::default().vulkan_memory_model(true).shader_float16(true);
    let mut v11 = vk::PhysicalDeviceVulkan11Features::default().storage_buffer16_bit_access(true);
    let info = vk::DeviceCreateInfo::default()
        .queue_create_infos(&queues)
        .enabled_extension_names(&extensions)
        .push_next(&mut executable)
        .push_next(&mut v12)
        .push_next(&mut v11);
    let device = instance.create_device(gpu, &info, None).expect("a device");

    let shader =
        device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(words), None).expect("a shader module");
    let mut sets: BTreeMap<u32, Vec<vk::DescriptorSetLayoutBinding>> = BTreeMap::new();
    for (_, global) in module.global_variables.iter() {
        if let Some(binding) = &global.binding {
            let kind = match global.space {
                AddressSpace::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
                _ => vk::DescriptorType::STORAGE_BUFFER,
            };
            sets.entry(binding.group).or_default().push(
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding.binding)
                    .descriptor_type(kind)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE),
            );
        }
    }
    let last = sets.keys().max().copied().unwrap_or(0);
    let layouts: Vec<_> = (0..=last)
        .map(|group| {
            let bindings = sets.get(&group).cloned().unwrap_or_default();
            device
                .create_descriptor_set_layout(&vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings), None)
                .expect("a set layout")
        })
        .collect();
    let ranges = [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(128)];
    let layout = device
        .create_pipeline_layout(
            &vk::PipelineLayoutCreateInfo::default().set_layouts(&layouts).push_constant_ranges(&ranges),
            None,
        )
        .expect("a layout");
    let name = CString::new(entry).expect("an entry point's name");
    let stage =
        vk::PipelineShaderStageCreateInfo::default().stage(vk::ShaderStageFlags::COMPUTE).module(shader).name(&name);
    let flags =
        vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
    let create = vk::ComputePipelineCreateInfo::default().flags(flags).layout(layout).stage(stage);
    let pipeline = device.create_compute_pipelines(vk::PipelineCache::null(), &[create], None).expect("a pipeline")[0];

    let properties = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
    let which = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
    let stats = properties
        .get_pipeline_executable_statistics(&which)
        .expect("statistics")
        .iter()
        .map(|s| (CStr::from_ptr(s.name.as_ptr()).to_string_lossy().into_owned(), s.value.u64))
        .collect();

    let call = properties.fp().get_pipeline_executable_internal_representations_khr;
    let mut count = 0;
    let _ = call(device.handle(), &which, &mut count, std::ptr::null_mut());
    let mut forms = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
    let _ = call(device.handle(), &which, &mut count, forms.as_mut_ptr());
    let mut texts: Vec<Vec<u8>> = forms.iter().map(|f| vec![0; f.data_size]).collect();
    for (form, text) in forms.iter_mut().zip(&mut texts) {
        form.p_data = text.as_mut_ptr().cast();
    }
    let _ = call(device.handle(), &which, &mut count, forms.as_mut_ptr());
    let isa = forms
        .iter()
        .zip(&texts)
        .find(|(form, _)| CStr::from_ptr(form.name.as_ptr()).to_bytes() == b"Assembly")
        .map(|(_, text)| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
        .unwrap_or_default();
    Report { stats, isa }
}
