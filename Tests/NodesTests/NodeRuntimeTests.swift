import Cluster
import Glibc
import Membership
import MeshActors
import Primitives
import Testing
import Transport

@testable import Nodes

/// Nodes inside the test's own process: where a test needs what a process cannot be given, or has to look between two steps.
private final class HostedCluster {
  let directory: String
  private let file: ClusterFile
  private(set) var nodes: [NodeRuntime] = []

  init(nodes count: Int) throws {
    ProcessSettings.ignoreBrokenPipe()
    directory = try makeTemporaryDirectory()
    let network = "127.\(Int.random(in: 1...254)).\(Int.random(in: 0...254))"
    let list = (1...count).map { #"{ "name": "n\#($0)", "address": "\#(network).\#($0)" }"# }.joined(separator: ", ")
    let path = "\(directory)/cluster.json"
    try write(#"{ "cluster": "hosted", "nodes": [\#(list)] }"#, to: path)
    file = try ClusterFile(readingFile: path)
    try JoinSecret.create(at: file.joinSecretPath)
  }

  /// Starts a node whose wall clock is `ahead` of the host's.
  func start(_ name: String, ahead: Duration = .zero) async throws -> NodeRuntime {
    let node = try #require(file.nodes.first { $0.name.string == name })
    let log = try NodeLog(node: name, path: "\(directory)/\(name).log")
    let milliseconds = Int64(ahead.inMilliseconds)
    let host = WallClock.system
    let runtime = try await NodeRuntime(
      file: file, node: node, options: StartOptions(workers: 1, drain: .zero, logFile: nil), log: log,
      clock: WallClock { UInt64(Int64(host.milliseconds()) + milliseconds) })
    nodes.append(runtime)
    try await runtime.start()
    return runtime
  }

  func log(_ name: String) -> String { text(of: "\(directory)/\(name).log") }

  func stop() async {
    for node in nodes { await node.stop(drain: .zero) }
    nodes = []
  }

  deinit {
    let shell = try? RunningProcess(["/bin/rm", "-rf", directory], log: "/dev/null")
    _ = try? shell?.ended()
  }
}

/// Waits for what other tasks bring about.
private func eventually(
  _ what: String, within limit: Duration = .seconds(30), _ condition: () async throws -> Bool
) async throws {
  let deadline = ContinuousClock.now + limit
  while try await !condition() {
    guard ContinuousClock.now < deadline else { throw Unexpected("waited \(limit) for \(what)") }
    try await Task.sleep(for: .milliseconds(10))
  }
}

extension ProcessTests {
  @Suite struct Hosted {
    @Test func aNodeWhoseClockIsAheadIsNamedByTheOthersAndNamesThem() async throws {
      let cluster = try HostedCluster(nodes: 2)
      let first = try await cluster.start("n1")
      let second = try await cluster.start("n2", ahead: .seconds(60))
      for (node, words) in [(first, "the clock of n2 is "), (second, "the clock of n1 is ")] {
        let direction = node === first ? " s ahead of this node's" : " s behind this node's"
        try await eventually("\(node.node.name) to say that the clocks differ") {
          let notes = await AdminRoutes(node: node).status().notes
          return notes.contains { $0.hasPrefix(words) && $0.contains(direction) && $0.contains("one time server") }
        }
        try eventually("the log of \(node.node.name) to say so") {
          cluster.log(node.node.name.string).split(separator: "\n").contains { $0.contains(words) && $0.contains(direction) }
        }
      }
      await cluster.stop()
    }

    /// Alone of three, so that no voter can sign a certificate: the registration waits for one.
    @Test func aWorkloadThatIsStoppedWhileItIsRegisteredIsGoneAtOnceAndMayComeBack() async throws {
      let cluster = try HostedCluster(nodes: 3)
      let node = try await cluster.start("n1")
      let label = try DNSLabel("details")
      let registration = WorkloadRegistration(
        name: label, namespace: try DNSLabel("default"), service: label, serviceAccount: label, labels: [],
        address: node.node.address, port: WorkloadRow.Port(name: "http", servicePort: 9080, port: 9080, appProtocol: "http"),
        weight: 1, healthCheck: HealthCheck(), outboundPort: nil)
      func health() -> WorkloadHealth? {
        node.cluster.view.registry.workloads(live: []).first { $0.row.name == label }?.row.health
      }
      for _ in 0..<2 {
        let registering = Task { try await node.workloads.register(registration) { _ in } }
        try eventually("the workload to be on its way") { health() == .starting }
        try await node.workloads.withdraw(registration.key)
        try eventually("the workload to be gone") { health() == nil }
        await #expect(throws: MeshError.self) { try await registering.value }
      }
      await cluster.stop()
    }
  }
}
