//! Devices that are not there, cannot serve, are lost, or run out of memory: clear errors, and others go on.

use relprop::ErrorKind;
use relprop::gpu::adapters;
use relprop::wgpu;

use super::*;

fn is_software() -> bool {
    let info = device::shared().device().adapter_info();
    info.device_type == wgpu::DeviceType::Cpu
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let error = open(|options| options.adapter = Some("no such device".to_owned())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.message().contains("`no such device`"), "{error}");
    for adapter in adapters(&DeviceOptions::default()).unwrap() {
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
    let found = adapters(&DeviceOptions::default()).unwrap();
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
    let healthy = explainer(&network, &composite, on(&device::shared()));
    let expected = bits(&healthy.explain(&borrowed(&data), &Targets::ArgMax).unwrap());
    let lost = explainer(&network, &composite, on(&Arc::new(open(|_| {}).unwrap())));
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
    let late = explainer(&network, &composite, on(&gpu));
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

/// Bytes of addresses that the process of the test below has.
const GIVEN: usize = 3 << 30;

/// What the test below runs in a process of its own, with little memory.
#[test]
#[ignore = "runs with little memory, in a process of the test below"]
fn with_little_memory() {
    let network = Arc::new(mlp(73, &[64, 64, 4], Activation::Relu, true));
    let composite = Composite::preset("epsilon").unwrap();
    let data = inputs(&network, 30, 98);
    let options = |batch_size| Options { batch_size: Some(batch_size), memory: Some(usize::MAX), ..on(&device::shared()) };
    let expected = bits(&explain(&network, &composite, options(30), &data, &Request::new(Targets::ArgMax)));
    let asked = 1 << 22;
    let explainer = explainer(&network, &composite, options(asked));
    match explainer.explain(&borrowed(&data), &Targets::ArgMax) {
        Ok(found) => {
            assert_eq!(bits(&found), expected);
            let held = explainer.device_memory().unwrap();
            assert!(held < GIVEN as u64, "{held} bytes are more than there are");
            println!("{held} bytes held");
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Limit, "{error}"),
    }
}

#[test]
#[cfg(target_os = "linux")]
fn chunks_get_smaller_where_a_device_has_not_the_memory() {
    // A real GPU's driver does not start with a limit on addresses.
    if !is_software() {
        return;
    }
    let this = std::env::current_exe().unwrap();
    let limited = format!("ulimit -v {}; exec \"$0\" --exact faults::with_little_memory --ignored --nocapture", GIVEN >> 10);
    let output = std::process::Command::new("sh").arg("-c").arg(limited).arg(this).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
