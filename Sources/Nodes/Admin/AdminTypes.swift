/// What the admin socket answers and accepts, as JSON. The command line and other tools read these.

/// One row of `mesh-node members`.
public struct MemberInfo: Codable, Sendable, Hashable {
  public var name: String
  public var address: String
  /// alive, suspect, dead or left.
  public var state: String
  public var incarnation: UInt64
  public var locality: String
  /// Seconds in this state, as this node saw it.
  public var since: Double
  /// Raft: leader, voter or learner.
  public var consensus: String
  public var roles: [String]
  public var workloads: Int
  /// Configuration revision the node serves; nil while unknown.
  public var revision: UInt64?
  public var gateway: Bool
  public var isLocal: Bool
}

/// One row of `mesh-node roles`.
public struct RoleInfo: Codable, Sendable, Hashable {
  public var role: String
  public var holder: String?
  public var epoch: UInt64
  /// alive, suspect, dead, left, or unknown.
  public var holderState: String
  public var assignedAt: String?
  public var reason: String
}

/// One service of `mesh-node services`.
public struct ServiceInfo: Codable, Sendable, Hashable {
  public var name: String
  public var namespace: String
  public var host: String
  public var ports: [String]
  public var address: String?
  public var endpoints: [EndpointInfo]
}

public struct EndpointInfo: Codable, Sendable, Hashable {
  public var workload: String
  public var version: String
  public var node: String
  public var address: String
  public var health: String
  public var locality: String
}

/// `mesh-node status`: this node in one page.
public struct NodeStatus: Codable, Sendable, Hashable {
  public var cluster: String
  public var node: String
  public var version: String
  public var address: String
  public var uptimeSeconds: Double
  public var ready: Bool
  /// What keeps the node from being ready, or is wrong without stopping it.
  public var notes: [String]
  public var consensus: ConsensusInfo
  public var revision: UInt64
  public var servedRevision: UInt64
  public var registryDigest: String
  public var trustBundleVersion: UInt64
  public var members: MemberCount
  public var listeners: [ListenerInfo]
  public var requests: RequestCount
  public var links: [LinkInfo]
  /// Accepted objects that are not in force, each with the reason.
  public var notEnforced: [String]
}

public struct ConsensusInfo: Codable, Sendable, Hashable {
  public var state: String
  public var term: UInt64
  public var leader: String?
  public var commitIndex: UInt64
  public var voters: [String]
  public var learners: [String]
}

public struct MemberCount: Codable, Sendable, Hashable {
  public var alive: Int
  public var suspect: Int
  public var dead: Int
  public var left: Int
}

public struct ListenerInfo: Codable, Sendable, Hashable {
  public var kind: String
  public var address: String
  public var detail: String
  public var error: String?
}

public struct RequestCount: Codable, Sendable, Hashable {
  public var total: UInt64
  /// Answered with 5xx, at this node as the source.
  public var serverErrors: UInt64
  public var active: UInt64
}

public struct LinkInfo: Codable, Sendable, Hashable {
  public var peer: String
  public var state: String
  public var roundTripMilliseconds: Double?
  public var detail: String
}

/// One certificate of `mesh-node certificates`.
public struct CertificateInfo: Codable, Sendable, Hashable {
  public var name: String
  /// node, workload or ca.
  public var kind: String
  public var issuer: String
  public var serial: String
  public var notBefore: String
  public var notAfter: String
  /// valid, expiring or expired.
  public var state: String
}

/// A file to apply: where it came from, for messages, and its text.
public struct ConfigSource: Codable, Sendable, Hashable {
  public var name: String
  public var text: String
  public init(name: String, text: String) {
    self.name = name
    self.text = text
  }
}

public struct ApplyRequest: Codable, Sendable {
  public var sources: [ConfigSource]
  public var dryRun: Bool
  /// Refuse the change for a warning, too.
  public var strict: Bool
  /// Wait until every live node serves the revision.
  public var wait: Bool
  public var timeoutMilliseconds: Int
  /// Namespace of objects that name none.
  public var namespace: String
  /// Refuse objects that name another namespace; nil from programs that do not know this.
  public var namespaceIsFixed: Bool?
  public init(
    sources: [ConfigSource], dryRun: Bool, strict: Bool = false, wait: Bool, timeoutMilliseconds: Int, namespace: String,
    namespaceIsFixed: Bool = false
  ) {
    self.namespaceIsFixed = namespaceIsFixed
    self.sources = sources
    self.dryRun = dryRun
    self.strict = strict
    self.wait = wait
    self.timeoutMilliseconds = timeoutMilliseconds
    self.namespace = namespace
  }
}

public struct DeleteRequest: Codable, Sendable {
  /// Objects to delete, as `kind/name`, in `namespace`.
  public var objects: [String]
  /// Or everything that these files name.
  public var sources: [ConfigSource]
  public var namespace: String
  /// Refuse objects of `sources` that name another namespace; nil from programs that do not know this.
  public var namespaceIsFixed: Bool?
  public var dryRun: Bool
  /// Leave out what does not exist.
  public var ignoreNotFound: Bool
  public var wait: Bool
  public var timeoutMilliseconds: Int
  public init(
    objects: [String], sources: [ConfigSource], namespace: String, namespaceIsFixed: Bool = false, dryRun: Bool = false,
    ignoreNotFound: Bool = false, wait: Bool, timeoutMilliseconds: Int
  ) {
    self.namespaceIsFixed = namespaceIsFixed
    self.dryRun = dryRun
    self.ignoreNotFound = ignoreNotFound
    self.objects = objects
    self.sources = sources
    self.namespace = namespace
    self.wait = wait
    self.timeoutMilliseconds = timeoutMilliseconds
  }
}

/// The answer to apply and delete.
public struct ApplyReport: Codable, Sendable, Hashable {
  /// The revision that holds the change; the current one when nothing changed.
  public var revision: UInt64
  public var changes: [ObjectChange]
  public var findings: [FindingInfo]
  /// With `wait`: nodes that serve the revision, and those that did not within the time.
  public var serving: [String]
  public var lagging: [String]
  public var elapsedMilliseconds: Double
}

public struct ObjectChange: Codable, Sendable, Hashable {
  public var kind: String
  public var namespace: String
  public var name: String
  /// created, configured, unchanged, deleted or skipped.
  public var action: String
  /// Unified diff, with `--dry-run`; or why it was skipped.
  public var detail: String?
}

public struct FindingInfo: Codable, Sendable, Hashable {
  /// error, warning or info.
  public var level: String
  /// Istio's analyzer code, or one of ours (`MESH…`).
  public var code: String
  public var file: String
  public var line: Int
  public var column: Int
  public var field: String
  public var message: String
  public var hint: String?
}

/// Any failure of the admin API.
public struct AdminFailure: Codable, Sendable, Error, CustomStringConvertible {
  /// Stable word: invalid, noQuorum, timeout, notFound, unavailable, conflict, internal.
  public var code: String
  public var message: String
  public var findings: [FindingInfo]
  public init(code: String, message: String, findings: [FindingInfo] = []) {
    self.code = code
    self.message = message
    self.findings = findings
  }
  public var description: String { message }
}

/// What `mesh-node run` asks of its node.
public struct WorkloadRequest: Codable, Sendable, Hashable {
  public var service: String
  public var version: String
  public var port: UInt16
  public var servicePort: UInt16?
  public var portName: String?
  public var namespace: String
  public var serviceAccount: String?
  /// http, http2, grpc, tcp, or auto: whatever the first bytes say.
  public var `protocol`: String
  /// Where the application listens; the node's address when nil.
  public var address: String?
  /// Name of the workload; `<service>-<version>` when nil.
  public var name: String?
  public var labels: [String: String]
  public var weight: UInt32
  /// HTTP path of the health check, the service to ask for by gRPC (empty: the server as a whole), or a command with its
  /// arguments; TCP connect when all are nil.
  public var healthPath: String?
  public var healthGRPC: String?
  public var healthCommand: [String]?
  /// A WorkloadGroup of the namespace: what its template and probe say holds where nothing else is said.
  public var group: String?
  /// `region/zone/subzone`; the node's when nil.
  public var locality: String?
  /// Further ports on which the application listens, by name.
  public var otherPorts: [String: UInt16]?
  public var healthDelaySeconds: Double?
  public var healthPeriodSeconds: Double?
  public var healthTimeoutSeconds: Double?
  public var healthSuccesses: Int?
  public var healthFailures: Int?
  /// The outbound port it had before, so that `http_proxy` stays true over a restart of the node.
  public var outboundPort: UInt16?
  /// Ports that the node opens for it, each leading to a host and port of the mesh.
  public var forwards: [Forward]?

  public struct Forward: Codable, Sendable, Hashable {
    public var port: UInt16
    public var host: String
    public var target: UInt16
    public init(port: UInt16, host: String, target: UInt16) {
      self.port = port
      self.host = host
      self.target = target
    }
  }

  public init(service: String, version: String, port: UInt16, namespace: String, protocol: String) {
    self.service = service
    self.version = version
    self.port = port
    self.namespace = namespace
    self.protocol = `protocol`
    labels = [:]
    weight = 1
  }
}

/// Lines the node sends while a workload's registration lives; the registration ends with the connection.
public struct WorkloadEventLine: Codable, Sendable, Hashable {
  /// registered, healthy, unhealthy, withdrawn or failed.
  public var event: String
  public var workload: String
  public var node: String
  public var detail: String
  public var outboundAddress: String?
  public var outboundPort: UInt16?
}

/// `mesh-node explain`'s question.
public struct ExplainRequest: Codable, Sendable, Hashable {
  /// Workload or service that sends; nil with `gateway`.
  public var from: String?
  /// Gateway port that receives.
  public var gatewayPort: UInt16?
  public var namespace: String
  public var method: String
  public var url: String
  public var headers: [Header]
  public struct Header: Codable, Sendable, Hashable {
    public var name: String
    public var value: String
    public init(name: String, value: String) {
      self.name = name
      self.value = value
    }
  }
  public init(from: String?, gatewayPort: UInt16?, namespace: String, method: String, url: String, headers: [Header]) {
    self.from = from
    self.gatewayPort = gatewayPort
    self.namespace = namespace
    self.method = method
    self.url = url
    self.headers = headers
  }
}

public struct ListenerConfigInfo: Codable, Sendable, Hashable {
  public var address: String
  public var port: UInt16
  public var kind: String
  public var detail: String
}

public struct RouteConfigInfo: Codable, Sendable, Hashable {
  public var table: String
  public var port: UInt16
  public var virtualHost: String
  public var domains: [String]
  public var match: String
  public var destination: String
  public var origin: String
}

public struct ClusterConfigInfo: Codable, Sendable, Hashable {
  public var host: String
  public var port: UInt16
  public var subset: String
  public var direction: String
  public var discovery: String
  public var loadBalancer: String
  public var tls: String
  public var endpoints: Int
  public var destinationRule: String
  /// Whether a request has needed it since the node started; until then only what it is made of is kept.
  public var inUse: Bool
}

public struct EndpointConfigInfo: Codable, Sendable, Hashable {
  public var endpoint: String
  public var via: String
  public var status: String
  public var workload: String
  public var cluster: String
  public var weight: UInt32
  public var locality: String
}

public struct StoredObjectInfo: Codable, Sendable, Hashable {
  public var kind: String
  public var apiVersion: String
  public var namespace: String
  public var name: String
  public var labels: [String: String]
  /// Raft index of the first accepted write.
  public var creationIndex: UInt64
  /// Raft index of the last write.
  public var resourceVersion: UInt64
  /// The whole object as YAML.
  public var yaml: String
  /// The whole object as JSON text.
  public var json: String
  public var enforced: Bool
  /// Virtual addresses that the mesh gave to a ServiceEntry's hosts.
  public var addresses: [String]?
}

public struct VersionInfo: Codable, Sendable, Hashable {
  public var version: String
  public var protocolMinimum: UInt32
  public var protocolMaximum: UInt32
  public var swift: String
  public var openSSL: String
  public var sqlite: String
}
