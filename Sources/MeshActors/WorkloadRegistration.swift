import Membership
import Primitives

/// What a workload asks of its node: to be fronted, watched and published.
public struct WorkloadRegistration: Sendable, Hashable {
  public var name: DNSLabel
  public var namespace: DNSLabel
  public var service: DNSLabel
  public var serviceAccount: DNSLabel
  public var labels: [WorkloadRow.Label]
  /// IPv4 or IPv6 address at which the application listens.
  public var address: String
  public var port: WorkloadRow.Port
  public var weight: UInt32
  public var healthCheck: HealthCheck
  /// The outbound port the application was told before, if any.
  public var outboundPort: UInt16?
  /// Ports of this node that lead to hosts of the mesh, whatever is spoken on them.
  public var forwards: [PortForward]
  /// `region/zone/subzone`; nil: the node's.
  public var locality: String?
  /// Further ports on which it listens, each with a name of its own.
  public var otherPorts: [WorkloadRow.Port] = []

  public init(
    name: DNSLabel, namespace: DNSLabel, service: DNSLabel, serviceAccount: DNSLabel, labels: [WorkloadRow.Label],
    address: String, port: WorkloadRow.Port, weight: UInt32, healthCheck: HealthCheck, outboundPort: UInt16?,
    forwards: [PortForward] = []
  ) {
    self.name = name
    self.namespace = namespace
    self.service = service
    self.serviceAccount = serviceAccount
    self.labels = labels
    self.address = address
    self.port = port
    self.weight = weight
    self.healthCheck = healthCheck
    self.outboundPort = outboundPort
    self.forwards = forwards
  }

  public var key: WorkloadKey { WorkloadKey(namespace: namespace, name: name) }
}

/// A port that a workload's node opens for it: connections go to a host and port by the mesh's rules, as opaque bytes.
public struct PortForward: Sendable, Hashable {
  public var port: UInt16
  /// Lower case; IPv6 without brackets.
  public var host: String
  public var target: UInt16

  public init(port: UInt16, host: String, target: UInt16) {
    self.port = port
    self.host = host
    self.target = target
  }
}

/// Names a workload of this node.
public struct WorkloadKey: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let namespace: DNSLabel
  public let name: DNSLabel
  public init(namespace: DNSLabel, name: DNSLabel) {
    self.namespace = namespace
    self.name = name
  }
  public static func < (a: WorkloadKey, b: WorkloadKey) -> Bool { (a.namespace, a.name) < (b.namespace, b.name) }
  public var description: String { "\(namespace)/\(name)" }
}

/// A step in the life of a registered workload, for whoever runs it.
public enum WorkloadEvent: Sendable, Hashable {
  case registered(outboundAddress: String, outboundPort: UInt16)
  case healthy
  case unhealthy(reason: String)
  case withdrawn
}
