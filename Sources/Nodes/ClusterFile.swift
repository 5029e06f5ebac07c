import Cluster
import FoundationEssentials
import Glibc
import MeshConfig
import Primitives
import Transport

/// What is wrong with a cluster file: where, what, and what to do.
public struct ClusterFileError: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// `cluster.json`: the one file that all hosts share. Unknown keys are errors.
public struct ClusterFile: Sendable {
  public struct Node: Sendable, Hashable {
    public var name: NodeName
    public var address: String
    public var locality: String
    /// Runs a gateway workload (labels `istio: ingressgateway`).
    public var gateway: Bool
    public var line: Int
  }

  /// Path as given, for messages.
  public let path: String
  /// Directory that relative paths in the file start from.
  public let directory: String
  public var cluster: DNSLabel
  public var trustDomain = "cluster.local"
  /// What the names of services end in: `reviews.default.svc.cluster.local`.
  public var domain = "cluster.local"
  public var voters = 3
  /// Pattern with `{node}`.
  public var dataDirectory = ".mesh/{node}"
  public var joinSecretFile = ".mesh/join-secret"
  public var nodes: [Node]
  /// Files and folders applied when the cluster has no configuration yet.
  public var config: [String] = []
  public var ports = MeshPorts()
  public var certificates = CertificateLifetimes()
  public var configuration = ConfigurationPolicy()
  /// What each node may hold and for how long; absent fields leave the defaults.
  public var limits = NodeLimits()
  /// True in the file of a node that joined with a token: the other nodes in it are only whom it asks first.
  public var hasJoined = false
  /// "stdout" (default), "off", or a file name.
  public var accessLog = "stdout"

  /// Largest cluster file read; a thousand nodes take about 100 kB.
  static let bytesMax = 1 << 20
  static let nodesMax = 1000

  public init(readingFile path: String) throws(ClusterFileError) {
    let bytes: [UInt8]
    do { bytes = try readFile(path, bytesMax: Self.bytesMax) } catch {
      throw ClusterFileError("\(path): \(error)\nA cluster file names the nodes; see the README, or use --config FILE.")
    }
    try self.init(parsing: bytes, path: path)
  }

  public init(parsing bytes: [UInt8], path: String) throws(ClusterFileError) {
    let (documents, error) = YAMLParser.parse(bytes)
    if let error { throw ClusterFileError("\(path):\(error.position.line):\(error.position.column): \(error.reason)") }
    guard let document = documents.first, documents.count == 1 else {
      throw ClusterFileError("\(path): expected one JSON object, found \(documents.count)")
    }
    self.path = path
    directory = path.contains("/") ? String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) : "."
    var object = try ClusterFileObject(document, path: path, what: "the cluster file")
    cluster = try object.label("cluster")
    nodes = try object.list("nodes").map { node throws(ClusterFileError) in try Node(node, path: path) }
    if let domain = try object.optionalString("trustDomain") { trustDomain = domain }
    do { try SPIFFEID.checkTrustDomain(trustDomain.utf8) } catch { throw object.problem("trustDomain", error.description) }
    if let name = try object.optionalString("domain") {
      guard name.split(separator: ".", omittingEmptySubsequences: false).allSatisfy({ (try? DNSLabel(String($0))) != nil })
      else {
        throw object.problem("domain", "'\(name)' is not a domain such as cluster.local")
      }
      domain = name
    }
    if let number = try object.optionalNumber("voters", in: 1...7) { voters = Int(number) }
    guard [1, 3, 5, 7].contains(voters) else {
      throw object.problem("voters", "use 1, 3, 5 or 7: an odd number keeps a quorum")
    }
    if let text = try object.optionalString("dataDirectory") { dataDirectory = text }
    guard dataDirectory.contains("{node}") else {
      throw object.problem("dataDirectory", "must contain {node}, so that nodes on one machine do not share a directory")
    }
    if let text = try object.optionalString("joinSecretFile") { joinSecretFile = text }
    config = try object.optionalStrings("config") ?? []
    if let text = try object.optionalString("accessLog") { accessLog = text }
    if let flag = try object.optionalBool("joined") { hasJoined = flag }
    if let node = try object.optionalObject("ports") { ports = try MeshPorts(node, path: path) }
    if let node = try object.optionalObject("certificates") { certificates = try CertificateLifetimes(node, path: path) }
    if let node = try object.optionalObject("limits") { limits = try NodeLimits(node, path: path) }
    if let node = try object.optionalObject("configuration") { configuration = try ConfigurationPolicy(node, path: path) }
    try object.finish()
    try checkNodes()
  }

  private func checkNodes() throws(ClusterFileError) {
    guard !nodes.isEmpty else { throw ClusterFileError("\(path): nodes: name at least one node") }
    guard nodes.count <= Self.nodesMax else { throw ClusterFileError("\(path): nodes: at most \(Self.nodesMax)") }
    for (index, node) in nodes.enumerated() {
      if let earlier = nodes[..<index].first(where: { $0.name == node.name }) {
        throw ClusterFileError("\(path):\(node.line): node name '\(node.name)' is already used in line \(earlier.line)")
      }
      if let earlier = nodes[..<index].first(where: { $0.address == node.address }) {
        throw ClusterFileError(
          "\(path):\(node.line): address \(node.address) of \(node.name) is already used by \(earlier.name) in line \(earlier.line)"
        )
      }
    }
  }

  /// A path of the file, relative paths starting at the file's directory.
  public func resolved(_ path: String) -> String { path.hasPrefix("/") ? path : "\(directory)/\(path)" }
  public func dataDirectory(of node: Node) -> String {
    resolved(dataDirectory.replacing("{node}", with: node.name.string))
  }
  public func adminSocketPath(of node: Node) -> String { dataDirectory(of: node) + "/admin.sock" }
  public var joinSecretPath: String { resolved(joinSecretFile) }
  /// The first `voters` nodes of the file hold the Raft log; fewer nodes make fewer voters, kept odd.
  public var initialVoters: [NodeName] {
    let count = min(voters, nodes.count)
    return nodes.prefix(count % 2 == 1 ? count : max(1, count - 1)).map(\.name)
  }
}

extension ClusterFile.Node {
  init(_ node: YAMLNode, path: String) throws(ClusterFileError) {
    var object = try ClusterFileObject(node, path: path, what: "a node")
    name = try object.label("name")
    address = try object.string("address")
    guard case .v4? = IPAddress(address) else {
      throw object.problem("address", "'\(address)' is not an IPv4 address such as 192.0.2.7")
    }
    locality = try object.optionalString("locality") ?? ""
    gateway = try object.optionalBool("gateway") ?? false
    line = node.position.line
    try object.finish()
  }
}

/// What the configuration role accepts beyond what is valid. Equal in the files of all nodes: any of them may hold the role.
public struct ConfigurationPolicy: Sendable, Hashable {
  /// Objects may not direct what other namespaces send to hosts that are not their own namespace's (ISTIO-SECURITY-2026-002).
  public var isolatesTenants = false

  public init() {}

  init(_ node: YAMLNode, path: String) throws(ClusterFileError) {
    var object = try ClusterFileObject(node, path: path, what: "configuration")
    if let flag = try object.optionalBool("tenantIsolation") { isolatesTenants = flag }
    try object.finish()
  }
}

/// Ports every node listens on.
public struct MeshPorts: Sendable, Hashable {
  public var mesh: UInt16 = 15008
  public var link: UInt16 = 15010
  public var metrics: UInt16 = 15020
  public var health: UInt16 = 15021
  /// Explicit outbound listeners of workloads are taken from here upwards.
  public var outboundFirst: UInt16 = 15100

  public init() {}

  init(_ node: YAMLNode, path: String) throws(ClusterFileError) {
    var object = try ClusterFileObject(node, path: path, what: "ports")
    let all: ClosedRange<UInt64> = 1...65535
    if let port = try object.optionalNumber("mesh", in: all) { mesh = UInt16(port) }
    if let port = try object.optionalNumber("link", in: all) { link = UInt16(port) }
    if let port = try object.optionalNumber("metrics", in: all) { metrics = UInt16(port) }
    if let port = try object.optionalNumber("health", in: all) { health = UInt16(port) }
    if let port = try object.optionalNumber("outboundFirst", in: 1...64000) { outboundFirst = UInt16(port) }
    try object.finish()
    let used = [mesh, link, metrics, health]
    guard Set(used).count == used.count else { throw object.problem("ports", "two of them are the same") }
  }
}

/// How long certificates live; leaves are renewed at half life.
public struct CertificateLifetimes: Sendable, Hashable {
  public var workload: Duration = .seconds(24 * 3600)
  public var node: Duration = .seconds(24 * 3600)
  public var authority: Duration = .seconds(3650 * 24 * 3600)

  public init() {}

  init(_ node: YAMLNode, path: String) throws(ClusterFileError) {
    var object = try ClusterFileObject(node, path: path, what: "certificates")
    let range: ClosedRange<UInt64> = 10...(3650 * 24 * 3600)
    if let seconds = try object.optionalNumber("workloadSeconds", in: range) { workload = .seconds(Int64(seconds)) }
    if let seconds = try object.optionalNumber("nodeSeconds", in: range) { self.node = .seconds(Int64(seconds)) }
    if let seconds = try object.optionalNumber("authoritySeconds", in: range) { authority = .seconds(Int64(seconds)) }
    try object.finish()
  }
}
