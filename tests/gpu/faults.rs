//! Devices that are not there, cannot serve, are lost, or run out of memory: clear errors, and others go on.

use relprop::ErrorKind;
use relprop::gpu::adapters;
use relprop::wgpu;

use super::*;

#[cfg(target_os = "linux")]
fn is_software() -> bool {
    device::shared().device().adapter_info().device_type == wgpu::DeviceType::Cpu
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let error = open(|options| options.adapter = Some("no such device".to_owned())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.message().contains("`no such device`"), "{error}");
    for adapter in adapters(&DeviceOptions::default()) {
        assert!(error.message().contains(&adapter.to_string()), "{error} leaves out {adapter}");
    }
    let none = open(|options| options.interfaces = Some(wgpu::Backends::empty())).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Device);
    assert!(none.message().contains("wgpu sees none"), "{none}");
}

#[test]
fn software_serves_only_where_it_is_named() {
    let network = Arc::new(mlp(70, &[4, 3], Activation::Relu, true));
    let composite = Composite::preset("epsilon").unwrap();
    let found = adapters(&DeviceOptions::default());
    let has_real = found.iter().any(|adapter| adapter.info.device_type != wgpu::DeviceType::Cpu);
    assert_eq!(found.iter().filter(|adapter| adapter.is_automatic).count(), usize::from(has_real));
    let automatic = explainer(&network, &composite, by(Backend::Auto));
    let asked = Explainer::with_options(Arc::clone(&network), &composite, by(Backend::Gpu));
    if has_real {
        assert_eq!((automatic.backend(), asked.unwrap().backend()), (Backend::Gpu, Backend::Gpu));
    } else {
        assert_eq!(automatic.backend(), Backend::Cpu);
        let error = asked.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Device);
        assert!(error.message().contains(&found[0].to_string()), "{error}");
    }
}

#[test]
fn limits_below_the_kernels_need_say_what_there_is_and_what_is_needed() {
    let refused = |limits: wgpu::Limits| open(|options| options.limits = Some(limits)).unwrap_err();
    let error = refused(wgpu::Limits::downlevel_defaults());
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("has 4 storage buffers a shader stage, and the kernels need 8"), "{error}");
    let narrow = wgpu::Limits { max_compute_invocations_per_workgroup: 128, ..wgpu::Limits::default() };
    assert!(refused(narrow).to_string().contains("has 128 invocations a workgroup, and the kernels need 256"));
    let none = wgpu::Limits { max_compute_workgroups_per_dimension: 0, ..wgpu::Limits::default() };
    assert!(refused(none).to_string().contains("has 0 workgroups a dispatch"));
    let vast = wgpu::Limits { max_buffer_size: u64::MAX, ..wgpu::Limits::default() };
    let error = refused(vast);
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.message().contains("cannot be opened"), "{error}");
}

#[test]
fn a_lost_device_is_an_error_and_others_go_on() {
    let network = Arc::new(mlp(71, &[12, 20, 5], Activation::Relu, true));
    let composite = Composite::preset("epsilon").unwrap();
    let data = inputs(&network, 20, 96);
    let healthy = explainer(&network, &composite, in_pairs(&device::shared()));
    let expected = bits(&healthy.explain(&borrowed(&data), &Targets::ArgMax).unwrap());
    let lost = explainer(&network, &composite, in_pairs(&Arc::new(open(|_| {}).unwrap())));
    assert_eq!(bits(&lost.explain(&borrowed(&data), &Targets::ArgMax).unwrap()), expected);
    lost.gpu().unwrap().device().destroy();
    // By the plan that is there, by one that is not, and forward only.
    for ask in [Request::new(Targets::ArgMax), Request::new(Targets::Top(2)), Request::new(Targets::ArgMax)] {
        let error = lost.explain_with(&borrowed(&data), &ask).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        assert!(error.message().contains("was lost"), "{error}");
        assert!(error.advice().is_some());
    }
    assert_eq!(lost.forward(&borrowed(&data)).unwrap_err().kind(), ErrorKind::Device);
    assert_eq!(bits(&healthy.explain(&borrowed(&data), &Targets::ArgMax).unwrap()), expected);
    // An explainer that never ran before the device went.
    let gpu = Arc::new(open(|_| {}).unwrap());
    gpu.device().destroy();
    let late = explainer(&network, &composite, in_pairs(&gpu));
    let error = late.explain(&borrowed(&data), &Targets::ArgMax).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device, "{error}");
    assert!(error.message().contains("was lost"), "{error}");
}

#[test]
fn a_device_lost_in_the_middle_of_a_batch_is_an_error_and_no_hang() {
    let network = Arc::new(mlp(72, &[64, 128, 5], Activation::Relu, true));
    let data = inputs(&network, 4000, 97);
    let gpu = Arc::new(open(|_| {}).unwrap());
    let explainer =
        explainer(&network, &Composite::preset("epsilon").unwrap(), Options { batch_size: Some(20), ..on(&gpu) });
    let few = first(&data, 20);
    explainer.explain(&borrowed(&few), &Targets::ArgMax).unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| explainer.explain(&borrowed(&data), &Targets::ArgMax));
        std::thread::sleep(std::time::Duration::from_millis(5));
        gpu.device().destroy();
        // The batch may have been done already.
        if let Err(error) = running.join().expect("no panic") {
            assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        }
    });
    assert!(explainer.explain(&borrowed(&few), &Targets::ArgMax).is_err());
}

/// Takes this process down to `more` bytes beside those it has.
#[cfg(target_os = "linux")]
fn limit_memory(more: u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let held: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    let limit = format!("--as={}", held * 1024 + more);
    let this = std::process::id().to_string();
    let status = std::process::Command::new("prlimit").args([&limit, "--pid", &this]).status();
    assert!(status.expect("util-linux is there").success());
}

/// What the test below runs in a process of its own.
#[test]
#[ignore = "takes its process's memory away: the test below runs it in another"]
#[cfg(target_os = "linux")]
fn with_little_memory() {
    const GIVEN: u64 = 256 << 20;
    let network = Arc::new(mlp(73, &[64, 64, 4], Activation::Relu, true));
    let composite = Composite::preset("epsilon").unwrap();
    // More than the memory holds at once.
    let data = inputs(&network, 100_000, 98);
    let options = |batch_size| {
        let options = on(&device::shared());
        Options { batch_size: Some(batch_size), memory: Some(usize::MAX), ..options }
    };
    let expected = bits(&explain(&network, &composite, options(1 << 10), &data, &Request::new(Targets::ArgMax)));
    let explainer = explainer(&network, &composite, options(1 << 22));
    limit_memory(GIVEN);
    let found = explainer.explain(&borrowed(&data), &Targets::ArgMax).unwrap();
    assert_eq!(bits(&found), expected);
    let held = explainer.device_memory().unwrap();
    assert!(held < GIVEN && held > GIVEN / 8, "{held} bytes of {GIVEN}");

    // A weight alone is more than there is: no smaller chunk helps.
    let large = Arc::new(mlp(75, &[3000, 3000, 1], Activation::Relu, true));
    limit_memory(32 << 20);
    let explainer = Explainer::with_options(Arc::clone(&large), &composite, options(1)).unwrap();
    let error = explainer.explain(&borrowed(&inputs(&large, 1, 99)), &Targets::ArgMax).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert!(error.message().contains("has no memory for"), "{error}");
}

#[test]
#[cfg(target_os = "linux")]
fn chunks_get_smaller_where_a_device_has_not_the_memory() {
    // A real GPU's memory is not its process's.
    if !is_software() {
        return;
    }
    let this = std::env::current_exe().unwrap();
    let arguments = ["--exact", "faults::with_little_memory", "--ignored"];
    let output = std::process::Command::new(this).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
