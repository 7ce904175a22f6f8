//! The GPU adapter that benchmarks run on.

use relprop::wgpu;

/// The adapter with `RELPROP_BENCH_ADAPTER` in its name, else the best there is, software too. Says which, or that there is none.
pub fn chosen() -> Option<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    let found = wgpu::Instance::new(descriptor).enumerate_adapters(wgpu::Backends::all());
    let mut found = pollster::block_on(found);
    found.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::Cpu => 2,
        _ => 1,
    });
    let wanted = std::env::var("RELPROP_BENCH_ADAPTER").unwrap_or_default().to_lowercase();
    let adapter = found.into_iter().find(|adapter| adapter.get_info().name.to_lowercase().contains(&wanted));
    match &adapter {
        Some(adapter) => eprintln!("gpu: {}", adapter.get_info().name),
        None => eprintln!("no GPU adapter with `{wanted}` in its name: only the CPU is timed"),
    }
    adapter
}
