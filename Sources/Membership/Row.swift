import Primitives

/// Version of a row, given by its owner alone: start of the owner's process, then a counter. Never a wall clock in a comparison
/// between writers, because there is only one writer.
public struct RowVersion: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let incarnation: UInt64
  public let sequence: UInt64

  public init(incarnation: UInt64, sequence: UInt64) {
    self.incarnation = incarnation
    self.sequence = sequence
  }

  /// Before every row.
  public static let zero = RowVersion(incarnation: 0, sequence: 0)

  public static func < (a: RowVersion, b: RowVersion) -> Bool {
    a.incarnation == b.incarnation ? a.sequence < b.sequence : a.incarnation < b.incarnation
  }
  public var description: String { "\(incarnation).\(sequence)" }
}

/// What kind of thing a row describes. Kinds this version does not know are carried and not interpreted.
public struct RowKind: RawRepresentable, Hashable, Comparable, Sendable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Facts about the owner, and the certificates its other rows are verified with. Exactly one row, sorted first.
  public static let node = RowKind(rawValue: 1)
  public static let workload = RowKind(rawValue: 2)

  public static func < (a: RowKind, b: RowKind) -> Bool { a.rawValue < b.rawValue }
}

/// Where a row stands in the registry. One key holds one value, written whole.
public struct RowKey: Hashable, Comparable, Sendable {
  public let owner: NodeName
  public let kind: RowKind
  /// Empty for the node row.
  public let namespace: String
  /// Empty for the node row.
  public let name: String

  public init(owner: NodeName, kind: RowKind, namespace: String, name: String) {
    self.owner = owner
    self.kind = kind
    self.namespace = namespace
    self.name = name
  }

  public static func node(_ owner: NodeName) -> RowKey { RowKey(owner: owner, kind: .node, namespace: "", name: "") }
  public static func workload(_ owner: NodeName, namespace: DNSLabel, name: DNSLabel) -> RowKey {
    RowKey(owner: owner, kind: .workload, namespace: namespace.string, name: name.string)
  }

  public static func < (a: RowKey, b: RowKey) -> Bool {
    if a.owner != b.owner { return a.owner < b.owner }
    if a.kind != b.kind { return a.kind < b.kind }
    if a.namespace != b.namespace { return a.namespace.utf8.lexicographicallyPrecedes(b.namespace.utf8) }
    return a.name.utf8.lexicographicallyPrecedes(b.name.utf8)
  }
}

/// One row as its owner wrote it.
public struct Row: Hashable, Sendable {
  public let key: RowKey
  public let version: RowVersion
  public let content: Content

  public init(key: RowKey, version: RowVersion, content: Content) {
    self.key = key
    self.version = version
    self.content = content
  }

  public enum Content: Hashable, Sendable {
    case node(NodeRow)
    case workload(WorkloadRow)
    /// Withdrawn at that wall-clock time (milliseconds since 1970, for people; nothing is decided by it).
    case tombstone(deletedAtMilliseconds: UInt64)
    /// Of a kind or form this version does not know: carried to others, shown to nobody.
    case opaque([UInt8])
  }

  public var isTombstone: Bool {
    if case .tombstone = content { true } else { false }
  }
}

/// What a node says of itself besides its membership.
public struct NodeRow: Hashable, Sendable {
  /// DER, leaf first: the certificate of the key that signs the owner's rows, up to but without the trusted root.
  public var certificates: [[UInt8]]
  /// Port of mutual TLS between nodes (15008).
  public var meshPort: UInt16
  public var protocols: ProtocolRange
  /// Revision of the configuration the node serves.
  public var revisionServed: UInt64
  /// Version of the trust bundle the node trusts.
  public var trustBundleVersion: UInt64
  /// Set by the registry when it publishes: the owner's rows below it are void.
  public internal(set) var floor: RowVersion = .zero

  public init(
    certificates: [[UInt8]], meshPort: UInt16 = 15008, protocols: ProtocolRange = ProtocolRange(1...1),
    revisionServed: UInt64 = 0, trustBundleVersion: UInt64 = 0
  ) {
    self.certificates = certificates
    self.meshPort = meshPort
    self.protocols = protocols
    self.revisionServed = revisionServed
    self.trustBundleVersion = trustBundleVersion
  }
}

/// Health of a workload as its node sees it.
public enum WorkloadHealth: UInt8, Hashable, Sendable, CaseIterable, CustomStringConvertible {
  case starting = 0
  case healthy = 1
  case unhealthy = 2
  /// Going: gets no new requests.
  case leaving = 3

  public var description: String {
    switch self {
    case .starting: "starting"
    case .healthy: "healthy"
    case .unhealthy: "unhealthy"
    case .leaving: "leaving"
    }
  }
}

/// One instance of an application behind its owner node.
public struct WorkloadRow: Hashable, Sendable {
  /// Unique in owner and namespace.
  public var name: DNSLabel
  public var namespace: DNSLabel
  /// The service it stands behind.
  public var service: DNSLabel
  public var serviceAccount: DNSLabel
  /// Sorted by key, without duplicates.
  public private(set) var labels: [Label]
  /// Textual IP address at which its node reaches it.
  public var address: String
  public var ports: [Port]
  /// `region/zone/subzone`.
  public var locality: String
  /// Load-balancing weight, 1 unless set.
  public var weight: UInt32
  public var health: WorkloadHealth
  public var isGateway: Bool
  /// Wall-clock milliseconds since 1970, for people.
  public var createdAtMilliseconds: UInt64

  public struct Label: Hashable, Sendable {
    public let key: String
    public let value: String
    public init(key: String, value: String) {
      self.key = key
      self.value = value
    }
  }

  public struct Port: Hashable, Sendable {
    public var name: String
    /// The port of the service, when it differs from the workload's.
    public var servicePort: UInt16?
    /// The port the workload listens on.
    public var port: UInt16
    /// As Istio names protocols: `http`, `http2`, `grpc`, `tcp`, `tls`, …
    public var appProtocol: String

    public init(name: String, servicePort: UInt16? = nil, port: UInt16, appProtocol: String) {
      self.name = name
      self.servicePort = servicePort
      self.port = port
      self.appProtocol = appProtocol
    }
  }

  public init(
    name: DNSLabel, namespace: DNSLabel, service: DNSLabel, serviceAccount: DNSLabel, labels: [Label] = [], address: String,
    ports: [Port], locality: String = "", weight: UInt32 = 1, health: WorkloadHealth, isGateway: Bool = false,
    createdAtMilliseconds: UInt64 = 0
  ) {
    self.name = name
    self.namespace = namespace
    self.service = service
    self.serviceAccount = serviceAccount
    self.labels = []
    self.address = address
    self.ports = ports
    self.locality = locality
    self.weight = weight
    self.health = health
    self.isGateway = isGateway
    self.createdAtMilliseconds = createdAtMilliseconds
    setLabels(labels)
  }

  /// Sorts by the bytes of the key; the first of equal keys stays.
  public mutating func setLabels(_ labels: [Label]) {
    var sorted: [Label] = []
    for (_, label) in labels.enumerated().sorted(by: {
      $0.element.key.utf8.elementsEqual($1.element.key.utf8)
        ? $0.offset < $1.offset : $0.element.key.utf8.lexicographicallyPrecedes($1.element.key.utf8)
    }) where sorted.last.map({ !$0.key.utf8.elementsEqual(label.key.utf8) }) ?? true {
      sorted.append(label)
    }
    self.labels = sorted
  }

  public func label(_ key: String) -> String? { labels.first { $0.key.utf8.elementsEqual(key.utf8) }?.value }
}
