// swift-tools-version: 6.2
import PackageDescription

// Each target imports only what stands above it here; the order is the architecture (see ARCHITECTURE.md).

let strict: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  // A tenth of a request's instructions. Debug builds, and so all tests, check.
  .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]
/// Code that runs once for each change, not once for each request: small, because what is mapped of the program is most
/// of an idle node's memory.
let small: [SwiftSetting] = [.unsafeFlags(["-Osize"], .when(configuration: .release))]
/// Relative relocations take 11 KiB instead of 1.3 MiB that are read at every start (glibc 2.36 and later); nothing looks up
/// symbols of the program, and equal functions are kept once.
let compact: [LinkerSetting] = [
  .unsafeFlags(
    ["-use-ld=lld"]
      + ["-z", "pack-relative-relocs", "--icf=all", "--exclude-libs=ALL", "--no-export-dynamic"].flatMap { ["-Xlinker", $0] },
    .when(configuration: .release))
]
/// Deliberate faults that the simulation has to catch (`make mutations`).
let mutations: [SwiftSetting] = Context.environment["MESH_MUTATIONS"] == nil ? [] : [.define("MUTATIONS")]
/// Pure targets hold no pointer, socket or clock.
let pure: [SwiftSetting] = strict + [.strictMemorySafety()] + mutations

func systemLibrary(_ name: String, pkgConfig: String, apt: String) -> Target {
  .systemLibrary(name: name, path: "Sources/Systems/\(name)", pkgConfig: pkgConfig, providers: [.apt([apt])])
}

let package = Package(
  name: "mesh-node",
  products: [
    .executable(name: "mesh-node", targets: ["mesh-node"]),
    .executable(name: "BookinfoDemo", targets: ["BookinfoDemo"]),
  ],
  targets: [
    // The operating system's libraries.
    .target(name: "CLinux", path: "Sources/Systems/CLinux"),
    .target(name: "CRE2", path: "Sources/Systems/CRE2", linkerSettings: [.linkedLibrary("re2")]),
    systemLibrary("COpenSSL", pkgConfig: "openssl", apt: "libssl-dev"),
    systemLibrary("CNGHTTP2", pkgConfig: "libnghttp2", apt: "libnghttp2-dev"),
    systemLibrary("CAres", pkgConfig: "libcares", apt: "libc-ares-dev"),
    systemLibrary("CSQLite", pkgConfig: "sqlite3", apt: "libsqlite3-dev"),
    systemLibrary("CYAML", pkgConfig: "yaml-0.1", apt: "libyaml-dev"),

    // Pure cores.
    .target(name: "Primitives", swiftSettings: pure),
    .target(name: "Telemetry", dependencies: ["Primitives"], swiftSettings: pure),
    .target(name: "HTTPCodec", dependencies: ["Primitives"], swiftSettings: pure),
    .target(name: "Membership", dependencies: ["Primitives"], swiftSettings: pure + small),
    .target(name: "Consensus", dependencies: ["Primitives"], swiftSettings: pure + small),
    .target(name: "MeshConfig", dependencies: ["Primitives", "Telemetry", "CYAML", "CRE2"], swiftSettings: strict + small),
    .target(name: "Traffic", dependencies: ["Primitives", "Telemetry", "HTTPCodec", "MeshConfig"], swiftSettings: pure),

    .target(name: "HTTP2", dependencies: ["Primitives", "HTTPCodec", "CNGHTTP2"], swiftSettings: strict),

    // Input and output.
    .target(name: "Transport", dependencies: ["Primitives", "CLinux", "COpenSSL"], swiftSettings: strict),
    .target(
      name: "Cluster", dependencies: ["Primitives", "Membership", "Consensus", "Transport", "CSQLite"],
      swiftSettings: strict + small),
    .target(
      name: "Proxy",
      dependencies: ["Primitives", "Telemetry", "HTTPCodec", "HTTP2", "MeshConfig", "Traffic", "Transport", "CLinux", "CAres"],
      swiftSettings: strict),

    // Actors, assembly, programs.
    .target(
      name: "MeshActors",
      dependencies: [
        "Primitives", "Membership", "Consensus", "MeshConfig", "Traffic", "Transport", "Cluster", "Proxy", "CLinux",
      ], swiftSettings: strict + small),
    .target(
      name: "Nodes",
      dependencies: [
        "Primitives", "Telemetry", "HTTPCodec", "Membership", "Consensus", "MeshConfig", "Traffic", "Transport", "Cluster",
        "Proxy", "MeshActors", "CLinux", "COpenSSL", "CSQLite",
      ], swiftSettings: strict + small),
    .executableTarget(
      name: "mesh-node",
      dependencies: ["Primitives", "MeshConfig", "Traffic", "Transport", "Cluster", "Nodes", "CLinux"],
      swiftSettings: strict + small, linkerSettings: compact),
    .executableTarget(
      name: "BookinfoDemo", dependencies: ["Primitives", "HTTPCodec", "CLinux", "COpenSSL"],
      exclude: ["Config"], resources: [], swiftSettings: strict),

    // Tests.
    .target(
      name: "Simulation", dependencies: ["Primitives", "Membership", "Consensus"], path: "Tests/Simulation", swiftSettings: pure
    ),
    .executableTarget(name: "rolling", path: "Tests/Rolling", swiftSettings: strict),
    .executableTarget(
      name: "bench-compile", dependencies: ["MeshConfig", "Primitives", "Proxy"], path: "Tests/BenchCompile",
      swiftSettings: strict),
    .executableTarget(
      name: "bench-actors", dependencies: ["Primitives", "Transport"], path: "Tests/BenchActors",
      exclude: ["Peers", "bench.py"], swiftSettings: strict),
    .executableTarget(
      name: "mesh-load", dependencies: ["Primitives", "HTTPCodec", "HTTP2", "Transport", "CLinux"], path: "Tests/Load",
      exclude: ["bench.py", "counts.py", "counts.json", "peers.py"], swiftSettings: strict),
    .executableTarget(
      name: "simulate", dependencies: ["Simulation", "Primitives"], path: "Tests/Simulate", swiftSettings: strict + mutations),
    .testTarget(name: "PrimitivesTests", dependencies: ["Primitives"], swiftSettings: strict),
    .testTarget(name: "TelemetryTests", dependencies: ["Telemetry", "Primitives"], swiftSettings: strict),
    .testTarget(name: "HTTPCodecTests", dependencies: ["HTTPCodec", "Primitives"], swiftSettings: strict),
    .testTarget(name: "HTTP2Tests", dependencies: ["HTTP2", "HTTPCodec", "Primitives"], swiftSettings: strict),
    .target(
      name: "FuzzTargets", dependencies: ["HTTP2", "HTTPCodec", "Primitives", "Transport"], path: "Tests/Fuzz/Targets",
      swiftSettings: strict),
    .executableTarget(name: "fuzz", dependencies: ["FuzzTargets"], path: "Tests/Fuzz/Runner", swiftSettings: strict),
    .testTarget(name: "FuzzTests", dependencies: ["FuzzTargets"], swiftSettings: strict),
    .testTarget(
      name: "MembershipTests", dependencies: ["Membership", "Primitives", "Simulation"], exclude: ["Scenarios"],
      swiftSettings: strict),
    .testTarget(
      name: "ConsensusTests", dependencies: ["Consensus", "Primitives", "Simulation"], exclude: ["Scenarios"],
      swiftSettings: strict),
    .testTarget(name: "MeshConfigTests", dependencies: ["MeshConfig", "Primitives"], swiftSettings: strict),
    .testTarget(
      name: "TrafficTests", dependencies: ["Traffic", "HTTPCodec", "MeshConfig", "Primitives", "Telemetry"],
      swiftSettings: strict),
    .testTarget(name: "TransportTests", dependencies: ["Transport", "Primitives", "CLinux"], swiftSettings: strict),
    .testTarget(
      name: "ClusterTests", dependencies: ["Cluster", "Consensus", "Membership", "Primitives", "Transport"],
      swiftSettings: strict),
    .testTarget(
      name: "ProxyTests", dependencies: ["Proxy", "HTTPCodec", "HTTP2", "MeshConfig", "Primitives", "Telemetry", "Transport"],
      swiftSettings: strict),
    .testTarget(
      name: "MeshActorsTests",
      dependencies: ["MeshActors", "Consensus", "Membership", "MeshConfig", "Primitives", "Transport"],
      swiftSettings: strict),
    .testTarget(
      name: "NodesTests",
      dependencies: ["Nodes", "MeshActors", "Cluster", "Consensus", "Membership", "Primitives", "Transport"],
      swiftSettings: strict),
    .testTarget(
      name: "BookinfoDemoTests", dependencies: ["BookinfoDemo", "HTTPCodec", "Primitives", "CLinux"], swiftSettings: strict),
    .testTarget(
      name: "ConformanceTests",
      dependencies: [
        "Cluster", "Nodes", "HTTPCodec", "MeshConfig", "Primitives", "Transport", "CLinux", "mesh-node", "BookinfoDemo",
      ],
      swiftSettings: strict),
    .testTarget(name: "TidyTests", swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6]
)
