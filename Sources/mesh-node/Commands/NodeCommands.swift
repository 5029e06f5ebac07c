import CLinux
import Cluster
import Glibc
import Nodes
import Primitives

extension Command {
  static let initialize = Command(
    "init", .run, summary: "create the join secret that all hosts of a cluster share",
    discussion: """
      Writes 32 random bytes (as hexadecimal) to the joinSecretFile of the cluster file, readable by its owner only.
      Run it on one host, then copy the file to the others. A node that does not know the secret is refused.
      """
  ) { arguments in
    let file = try ClusterFile.load(arguments)
    do { try JoinSecret.create(at: file.joinSecretPath) } catch { throw CommandFailure("\(error)") }
    Terminal.line("wrote \(file.joinSecretPath); copy it to every host of the cluster, then: mesh-node start --node NAME")
    return .done
  }

  static let start = Command(
    "start", .run, summary: "run one node in the foreground",
    discussion: """
      The node keeps its identity and state in the data directory of the cluster file; delete nothing there to recover.
      SIGTERM or Ctrl-C ends it: workloads are withdrawn, running requests finish, other nodes are told.
      """,
    options: [
      .value("workers", "N", "threads that carry traffic (default: one a core)"),
      .value("drain", "TIME", "how long running requests may finish at the end (default: the mesh's, 5s)"),
      .value("log", "FILE", "write the node's log to FILE instead of standard error"),
      .value("token", "TOKEN", "join with a token (or @FILE that holds it): mesh-node token create"),
      .value("join", "ADDRESS", "which of the nodes that the token names to ask first"),
      .value("address", "ADDRESS", "the address of a node that joins with a token"),
      .value("locality", "REGION/ZONE", "where a node that joins with a token stands"),
      .flag("gateway", "a node that joins with a token runs a gateway"),
    ]
  ) { arguments in
    let joining = try TokenStart(arguments)
    try joining?.writeClusterFile(arguments)
    let file = try ClusterFile.load(arguments)
    let node = try file.chosenNode(arguments)
    let cores = UInt64(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
    let drain = try arguments.value("drain").map { _ in try arguments.duration("drain", default: .zero) }
    let options = StartOptions(
      workers: Int(try arguments.number("workers", default: cores, in: 1...256)),
      drain: drain, logFile: arguments.value("log"),
      token: joining?.token)
    do {
      try await NodeProcess.run(file: file, node: node, options: options) { Signals.pending() }
    } catch let error as StartFailure {
      throw CommandFailure(error.description)
    }
    return .done
  }

  static let leave = Command(
    "leave", .other, summary: "end a node for good: its workloads, roles and vote go, the others are told, it stops",
    discussion: """
      Another node takes its vote first. It is no member any more then. It rejoins with: mesh-node start --node NAME
      A node that is only restarted is stopped with SIGTERM instead: it keeps its vote.
      """
  ) { arguments in
    let client = try AdminClient(arguments)
    let answer = try client.post("/v1/leave", [String](), as: [String: String].self, timeout: .seconds(30))
    Terminal.line(answer["message"] ?? "node \(client.node) leaves")
    return .done
  }

  static let version = Command("version", .other, summary: "print versions of this program and of a running node") {
    arguments in
    struct Versions: Codable {
      var client: VersionInfo
      var node: VersionInfo?
    }
    let running = try? AdminClient(arguments).get("/v1/version", as: VersionInfo.self)
    try show(Versions(client: .current, node: running), as: arguments.format) { versions in
      var lines = ["mesh-node \(versions.client.version)"]
      lines.append("  link protocol \(versions.client.protocolMinimum)–\(versions.client.protocolMaximum)")
      lines.append("  Swift \(versions.client.swift), \(versions.client.openSSL), SQLite \(versions.client.sqlite)")
      if let node = versions.node { lines.append("  running node: \(node.version)") }
      return lines
    }
    return .done
  }
}
