import FoundationEssentials
import Glibc

/// Where Istio's files and the programs under test are, and what of them this machine can run.
enum Conformance {
  /// The folder of Istio's Bookinfo sample, where it is present.
  static let bookinfo: String? = {
    let named = ProcessInfo.processInfo.environment["MESH_CONFORMANCE"]
    let here = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().path
    let beside = here.components(separatedBy: "/Tests/").first.map { "\($0)/../shared/conformance" }
    return [named, beside].compactMap { $0 }.map { "\($0)/istio/bookinfo" }.first {
      FileManager.default.fileExists(atPath: "\($0)/networking")
    }
  }()

  /// The folder of the test bundle, where SwiftPM puts executables too.
  static let programs: String = {
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
    return own.lastIndex(of: "/").map { String(own[..<$0]) } ?? "."
  }()

  static var meshNode: String { "\(programs)/mesh-node" }
  static var bookinfoDemo: String { "\(programs)/BookinfoDemo" }

  /// Why nothing here can run; nil when it can.
  static let obstacle: String? = {
    guard bookinfo != nil else { return "no conformance data: set MESH_CONFORMANCE to its folder" }
    for program in [meshNode, bookinfoDemo] where access(program, X_OK) != 0 {
      return "\(program) is not built: swift build"
    }
    return nil
  }()

  /// Ports 80 and 443, and a private /etc/hosts, take root and mount namespaces.
  static let isPrivileged: Bool = {
    guard geteuid() == 0, let process = try? SpawnedProcess(["unshare", "--mount", "true"]) else { return false }
    return process.wait() == 0
  }()
}
