import FoundationEssentials

/// Seeds of simulated runs: a fixed handful, and as many more as `MESH_SIMULATION_SEEDS` says.
enum Seeds {
  static let handful: [UInt64] = take(2)

  static func take(_ count: UInt64) -> [UInt64] {
    let more = ProcessInfo.processInfo.environment["MESH_SIMULATION_SEEDS"].flatMap { UInt64($0) } ?? 0
    return Array(1...(count + more))
  }
}
