//! What kind of device computes, as far as shapes of tiles depend on it.

/// What a device is to the choice of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A program that acts as a GPU.
    Software,
    /// A GPU with few registers for each invocation, as those of Intel and Apple and of phones are: 64 sums beside what they are made of
    /// spill, or halve how many invocations run at a time. ggml's Vulkan backend, which was timed on them, leaves its tile of that size out
    /// there too (ggml-vulkan.cpp, `mul_mat_l`).
    Narrow,
    /// Every other GPU. benches/README.md has how many registers the large tile takes on AMD's.
    Wide,
}

impl DeviceKind {
    /// The kind of an adapter.
    pub fn of(info: &wgpu::AdapterInfo) -> Self {
        const INTEL: u32 = 0x8086;
        const APPLE: u32 = 0x106b;
        const QUALCOMM: u32 = 0x5143;
        const ARM: u32 = 0x13b5;
        const IMAGINATION: u32 = 0x1010;
        const BROADCOM: u32 = 0x14e4;
        match (info.device_type, info.vendor) {
            (wgpu::DeviceType::Cpu, _) => DeviceKind::Software,
            (_, INTEL | APPLE | QUALCOMM | ARM | IMAGINATION | BROADCOM) => DeviceKind::Narrow,
            // Metal tells no vendor; what it runs on is Apple's own, but for Macs that are no longer made.
            _ if info.backend == wgpu::Backend::Metal && !info.name.contains("AMD") => DeviceKind::Narrow,
            _ => DeviceKind::Wide,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors_and_metal_tell_kinds_apart() {
        let info = |device_type, vendor, backend, name: &str| {
            let info = wgpu::AdapterInfo::new(device_type, backend);
            wgpu::AdapterInfo { vendor, name: name.to_owned(), ..info }
        };
        let (real, vulkan) = (wgpu::DeviceType::DiscreteGpu, wgpu::Backend::Vulkan);
        let kind = |device_type, vendor, backend, name| DeviceKind::of(&info(device_type, vendor, backend, name));
        assert_eq!(kind(real, 0x10de, vulkan, "NVIDIA"), DeviceKind::Wide);
        assert_eq!(kind(real, 0x1002, vulkan, "AMD Radeon"), DeviceKind::Wide);
        assert_eq!(kind(real, 0x8086, vulkan, "Intel Arc"), DeviceKind::Narrow);
        assert_eq!(kind(real, 0, wgpu::Backend::Metal, "Apple M3"), DeviceKind::Narrow);
        assert_eq!(kind(real, 0, wgpu::Backend::Metal, "AMD Radeon Pro 5500M"), DeviceKind::Wide);
        assert_eq!(kind(wgpu::DeviceType::Cpu, 0x8086, vulkan, "a program"), DeviceKind::Software);
    }
}
