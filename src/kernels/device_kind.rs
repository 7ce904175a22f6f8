//! What kind of device computes, as far as shapes of tiles depend on it.

/// What a device is to the choice of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A program that acts as a GPU.
    Software,
    /// A GPU with few registers for each invocation: 64 sums beside what they are made of spill, or halve how many invocations run at a
    /// time. For Intel and Apple that is what ggml's Vulkan backend found, which leaves its tile of that size out there (ggml-vulkan.cpp,
    /// `mul_mat_l`); for phones it is a guess. NVIDIA's compiler gives such a tile 172 registers and more, of which an H100 holds one workgroup
    /// for each processor; it took 1.02 to 2.2 times the medium tile's time (benches/README.md).
    FewRegisters,
    /// Every other GPU. benches/README.md has how many registers the large tile takes on AMD's.
    ManyRegisters,
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
        const NVIDIA: u32 = 0x10de;
        /// Under Direct3D: "QCOM".
        const QUALCOMM_ACPI: u32 = 0x4d4f_4351;
        let is_of_apple = match info.backend {
            // Metal tells no vendor; what it runs on is Apple's own, but for Macs that are no longer made.
            wgpu::Backend::Metal => !info.name.contains("AMD"),
            // Mesa's driver for Apple's GPUs, whatever vendor it tells.
            _ => info.driver.to_lowercase().contains("honeykrisp"),
        };
        match (info.device_type, info.vendor) {
            (wgpu::DeviceType::Cpu, _) => DeviceKind::Software,
            (_, NVIDIA | INTEL | APPLE | QUALCOMM | QUALCOMM_ACPI | ARM | IMAGINATION | BROADCOM) => {
                DeviceKind::FewRegisters
            }
            // A browser does not tell what it runs on.
            _ if is_of_apple || info.backend == wgpu::Backend::BrowserWebGpu => DeviceKind::FewRegisters,
            _ => DeviceKind::ManyRegisters,
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
        assert_eq!(kind(real, 0x10de, vulkan, "NVIDIA"), DeviceKind::FewRegisters);
        assert_eq!(kind(real, 0x1002, vulkan, "AMD Radeon"), DeviceKind::ManyRegisters);
        assert_eq!(kind(real, 0x8086, vulkan, "Intel Arc"), DeviceKind::FewRegisters);
        assert_eq!(kind(real, 0, wgpu::Backend::Metal, "Apple M3"), DeviceKind::FewRegisters);
        assert_eq!(kind(real, 0, wgpu::Backend::Metal, "AMD Radeon Pro 5500M"), DeviceKind::ManyRegisters);
        assert_eq!(kind(real, 0, wgpu::Backend::BrowserWebGpu, ""), DeviceKind::FewRegisters);
        let asahi = wgpu::AdapterInfo { driver: "Honeykrisp".to_owned(), ..info(real, 0x10005, vulkan, "Apple M1") };
        assert_eq!(DeviceKind::of(&asahi), DeviceKind::FewRegisters);
        assert_eq!(kind(wgpu::DeviceType::Cpu, 0x8086, vulkan, "a program"), DeviceKind::Software);
    }
}
