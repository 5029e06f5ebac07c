/// Hosts added to the registry by hand (`networking.istio.io` ServiceEntry).
public struct ServiceEntry: Hashable, Sendable {
  public var hosts: [String]
  public var addresses: [String]
  public var ports: [Port]
  public var location: Location
  public var resolution: Resolution
  public var endpoints: [WorkloadEntry]
  /// nil: no selector.
  public var workloadSelector: [String: String]?
  public var subjectAltNames: [String]
  public var exportTo: [String]

  public struct Port: Hashable, Sendable {
    public var number: UInt16
    public var name: String
    /// Empty: guessed from the port's name and number.
    public var `protocol`: String
    public var targetPort: UInt16?
  }
  public enum Location: String, CaseIterable, Hashable, Sendable {
    case meshExternal = "MESH_EXTERNAL"
    case meshInternal = "MESH_INTERNAL"
  }
  public enum Resolution: String, CaseIterable, Hashable, Sendable {
    case none = "NONE"
    case fixed = "STATIC"
    case dns = "DNS"
    case dnsRoundRobin = "DNS_ROUND_ROBIN"
    case dynamicDNS = "DYNAMIC_DNS"
  }
}

/// An endpoint written by hand (Istio, ServiceEntry).
public struct WorkloadEntry: Hashable, Sendable {
  public var address: String
  public var ports: [Keyed<Int>]
  public var labels: [String: String]
  public var locality: String
  public var weight: Int
  public var serviceAccount: String
  /// The network that the address is part of; empty: the caller's.
  public var network: String

  static let empty = WorkloadEntry(
    address: "", ports: [], labels: [:], locality: "", weight: 1, serviceAccount: "", network: "")
}
