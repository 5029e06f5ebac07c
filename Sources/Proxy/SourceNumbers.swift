import MeshConfig
import Synchronization

/// Numbers workloads with their identities, once in the life of the process: an index into a snapshot means another workload
/// in the next, and a connection must never serve another identity.
enum SourceNumbers {
  private static let known = Mutex<[String: Int32]>([:])

  static func number(_ workload: LocalWorkload, in snapshot: MeshSnapshot) -> Int32 {
    guard snapshot.workloads.indices.contains(workload.workload) else { return -1 }
    let name = "\(snapshot.workloads[workload.workload].key) \(workload.identity)"
    return known.withLock { known in
      if let number = known[name] { return number }
      let number = Int32(clamping: known.count)
      known[name] = number
      return number
    }
  }
}
