#!/usr/bin/env bash
# Runs the whole test suite: unit, integration, documentation and example tests, then the crate without its features, then
# benches/kernelstat, which fails where a kernel spills registers or a product's loop gets worse.
# Needs Rust and a C linker; brings the Vulkan driver that the GPU tests run on where the machine has none.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'END'
Usage: tests/run.sh [--all-drivers | --drivers] [--profile NAME]

Runs every test. The GPU tests need a Vulkan driver: where a Linux machine has none that can work, Mesa's software driver
is installed with apt-get (and sudo, if not root), or a message says what to install. macOS and Windows bring their own.

  --all-drivers  runs the GPU tests a second time, on SwiftShader, taken from Debian's package chromium-common without
                 installing it: 30 MB to download, kept in target/drivers
  --drivers      only brings what --all-drivers needs, and runs no test
  --profile NAME builds with a profile of Cargo.toml instead of release
  -h, --help     prints this

RELPROP_TEST_ADAPTER=llvmpipe makes the GPU tests ask for the adapter with that in its name; unset, they take the one there is,
a real GPU first. VK_DRIVER_FILES and VK_ICD_FILENAMES, where set, choose the driver, and nothing is installed.
END
}

# What runs again without features: all that computes. There the CPU backend has no threads, and nothing else differs; that
# the rest compiles, clippy shows.
plain_tests=(--test attribution --test backends --test canonical --test evaluation --test textbook)

# What runs again on a second driver: every kernel and whole explanations. Every feature, as in the first run: nothing is built
# twice. It keeps no compiled kernels, so what other tests repeat is left to the first driver.
gpu_tests() {
    cargo test --locked --profile "$profile" --all-features --test kernels --test gpu -- --skip texts::
}

say() {
    printf 'tests/run.sh: %s\n' "$*" >&2
}

# A mirror that does not answer is given up.
patience=(-o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o Acquire::Retries=1)

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

update_lists() {
    as_root timeout 60 apt-get "${patience[@]}" update
}

has_loader() {
    local folder known
    known=$(PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null) || known=
    [[ $known != *libvulkan.so.1* ]] || return 0
    local -a folders
    IFS=: read -ra folders <<<"${LD_LIBRARY_PATH:-}:/usr/lib:/usr/local/lib:/usr/lib64"
    for folder in "${folders[@]}"; do
        [ -z "$folder" ] || [ ! -e "$folder/libvulkan.so.1" ] || return 0
    done
    return 1
}

# A driver's manifest alone is no adapter: drivers for real devices come in one package with the software one, or with an
# image that runs on machines without the device.
has_driver() {
    [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}${VK_ADD_DRIVER_FILES:-}" ] || return 0
    local folder manifest device
    local -a folders manifests=()
    IFS=: read -ra folders <<<"${XDG_CONFIG_DIRS:-/etc/xdg}:${XDG_DATA_DIRS:-}"
    folders+=("${XDG_CONFIG_HOME:-${HOME:-}/.config}" "${XDG_DATA_HOME:-${HOME:-}/.local/share}")
    for folder in /usr/share /usr/local/share /etc "${folders[@]}"; do
        for manifest in "$folder"/vulkan/icd.d/*.json; do
            [ ! -e "$manifest" ] || manifests+=("$manifest")
        done
    done
    for manifest in ${manifests[@]+"${manifests[@]}"}; do
        case ${manifest##*/} in
        lvp_icd* | *swiftshader*) return 0 ;;
        esac
    done
    [ ${#manifests[@]} != 0 ] || return 1
    for device in /dev/dri/renderD* /dev/nvidia[0-9]* /dev/dxg; do
        [ ! -e "$device" ] || return 0
    done
    return 1
}

# The driver of the first run: a real device's, or Mesa's software driver (lavapipe).
bring_driver() {
    case $(uname -s) in
    Darwin | MINGW* | MSYS* | CYGWIN*) return 0 ;;
    esac
    if has_loader && has_driver; then
        return 0
    fi
    if ! command -v apt-get >/dev/null || { [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; }; then
        say "the GPU tests need a Vulkan driver, and none was found; install the loader (libvulkan.so.1) and Mesa's software" \
            "driver (lavapipe): Debian's libvulkan1 and mesa-vulkan-drivers, Fedora's vulkan-loader and mesa-vulkan-drivers," \
            "Arch's vulkan-icd-loader and vulkan-swrast, Alpine's vulkan-loader and mesa-vulkan-swrast"
        return 1
    fi
    printf '== no Vulkan driver here: apt-get installs libvulkan1 and mesa-vulkan-drivers\n'
    update_lists || say 'apt-get update failed; the lists that are here must do'
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get "${patience[@]}" install --yes --no-install-recommends \
        libvulkan1 mesa-vulkan-drivers; then
        say 'apt-get could not install libvulkan1 and mesa-vulkan-drivers; the GPU tests need a Vulkan driver'
        return 1
    fi
    if ! has_loader || ! has_driver; then
        say 'libvulkan1 and mesa-vulkan-drivers are installed, yet no software driver (lvp_icd*.json) is in vulkan/icd.d'
        return 1
    fi
}

# Fetches into the folder that it stands in. The package's lists may be missing or too old for the mirror.
fetch_swiftshader() {
    local from=./usr/lib/chromium
    local -a download=(timeout 120 apt-get "${patience[@]}" download chromium-common)
    "${download[@]}" || { update_lists && "${download[@]}"; } || return 1
    dpkg-deb --fsys-tarfile chromium-common_*.deb |
        tar --extract --strip-components=4 "$from/$library" "$from/$manifest" || return 1
    rm chromium-common_*.deb
    # Alone it works wherever it finds its libraries: it is not installed, so nothing else sees to that.
    if ldd "$library" | grep 'not found'; then
        say "SwiftShader needs the libraries above"
        return 1
    fi
}

# SwiftShader's manifest names the library beside it.
bring_swiftshader() {
    local library=libvk_swiftshader.so manifest=vk_swiftshader_icd.json
    local drivers=${CARGO_TARGET_DIR:-target}/drivers
    swiftshader=$drivers/swiftshader/$manifest
    if [ ! -e "$swiftshader" ]; then
        if ! command -v apt-get >/dev/null; then
            say "SwiftShader is taken from Debian's package chromium-common, and there is no apt-get;" \
                "VK_DRIVER_FILES=MANIFEST tests/run.sh runs the tests on any driver"
            return 1
        fi
        printf '== SwiftShader is taken from chromium-common\n'
        rm -rf "$drivers"
        mkdir -p "$drivers/new"
        if ! (cd "$drivers/new" && fetch_swiftshader); then
            say "SwiftShader could not be had from Debian's package chromium-common (Ubuntu has none)"
            return 1
        fi
        mv "$drivers/new" "$drivers/swiftshader"
    fi
    swiftshader=$(realpath "$swiftshader")
}

all_drivers=false tests=true profile=release
while [ $# != 0 ]; do
    case $1 in
    --all-drivers) all_drivers=true ;;
    --drivers) all_drivers=true tests=false ;;
    --profile)
        if [ $# = 1 ]; then
            say '--profile takes a name'
            exit 2
        fi
        profile=$2
        shift
        ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        say "unknown argument $1"
        usage >&2
        exit 2
        ;;
    esac
    shift
done

if $tests && ! command -v cargo >/dev/null; then
    say 'cargo is not here; install Rust from https://rustup.rs'
    exit 1
fi

bring_driver
if $all_drivers; then
    bring_swiftshader
fi
$tests || exit 0

# What lavapipe computes here is little, and what it compiles is much: without LLVM's own passes that takes half the time.
export GALLIVM_PERF=${GALLIVM_PERF-nopt}

# Optimised: the suite explains whole data sets and compares them with float64, and `cargo run --release -- demo` has
# built most of it already.
printf '== all features\n'
cargo test --locked --profile "$profile" --all-targets --all-features
printf '== examples in the documentation\n'
cargo test --locked --profile "$profile" --all-features --doc
printf '== without features\n'
cargo test --locked --profile "$profile" --no-default-features "${plain_tests[@]}"
if compgen -G '/usr/share/vulkan/icd.d/radeon_icd*.json' >/dev/null; then
    printf "== what a real GPU's compiler makes of the kernels\n"
    benches/kernelstat/run.sh "$profile"
else
    say "no RADV here: what a real GPU's compiler makes of the kernels is not looked at"
fi
if $all_drivers; then
    printf '== GPU tests on SwiftShader\n'
    unset VK_ADD_DRIVER_FILES
    # Both names of one choice: loaders before 1.3.207 know only the older.
    export VK_DRIVER_FILES=$swiftshader VK_ICD_FILENAMES=$swiftshader RELPROP_TEST_ADAPTER=SwiftShader
    gpu_tests
fi
