/// Addresses behind a Service written by hand (Kubernetes `Endpoints` and `EndpointSlice`).
public struct KubernetesEndpoints: Hashable, Sendable {
  /// The Service: the object's own name, or the slice's `kubernetes.io/service-name` label.
  public var serviceName: String?
  public var groups: [Group]

  /// Addresses that all serve the same ports.
  public struct Group: Hashable, Sendable {
    public var addresses: [Address]
    public var ports: [Port]
  }
  public struct Address: Hashable, Sendable {
    /// An IP address, or a name in slices of the type FQDN.
    public var address: String
    public var isReady: Bool
    public var zone: String
  }
  public struct Port: Hashable, Sendable {
    /// The name of the Service's port; empty for a Service with one port.
    public var name: String
    public var port: UInt16
  }
}

/// `Endpoints`.
struct EndpointsFields: FieldDecodable {
  let value: KubernetesEndpoints
  init(_ fields: inout Fields) {
    let subsets: [Subset] = fields.list("subsets")
    fields.ignoreOthers()
    value = KubernetesEndpoints(
      serviceName: nil,
      groups: subsets.map { subset in
        let ready = subset.addresses.map { KubernetesEndpoints.Address(address: $0.ip, isReady: true, zone: "") }
        let waiting = subset.notReady.map { KubernetesEndpoints.Address(address: $0.ip, isReady: false, zone: "") }
        return KubernetesEndpoints.Group(addresses: ready + waiting, ports: subset.ports)
      })
  }

  private struct Subset: FieldDecodable {
    let addresses: [Item]
    let notReady: [Item]
    let ports: [KubernetesEndpoints.Port]
    init(_ fields: inout Fields) {
      addresses = fields.list("addresses")
      notReady = fields.list("notReadyAddresses")
      ports = fields.list("ports")
    }
  }
  private struct Item: FieldDecodable {
    let ip: String
    init(_ fields: inout Fields) {
      ip = fields.requiredString("ip")
      if !ip.isEmpty && !AddressForm.isAddress(ip) { fields.error("ip", "'\(ip.prefix(80))' is not an IP address") }
      fields.ignoreOthers()
    }
  }
}

/// `EndpointSlice`.
struct EndpointSliceFields: FieldDecodable {
  let value: KubernetesEndpoints
  private enum AddressType: String, CaseIterable {
    case ipv4 = "IPv4"
    case ipv6 = "IPv6"
    case name = "FQDN"
  }
  init(_ fields: inout Fields) {
    let type = fields.name("addressType") as AddressType?
    if type == nil && !fields.report.hasErrors { fields.error("addressType", "required") }
    let items: [Item] = fields.list("endpoints")
    let ports: [KubernetesEndpoints.Port] = fields.list("ports")
    fields.ignoreOthers()
    let addresses = items.flatMap { item in
      item.addresses.map { KubernetesEndpoints.Address(address: $0, isReady: item.isReady, zone: item.zone) }
    }
    if type != .name {
      for address in addresses where !AddressForm.isAddress(address.address) {
        fields.error("endpoints", "'\(address.address.prefix(80))' is not an IP address")
      }
    }
    value = KubernetesEndpoints(
      serviceName: nil, groups: [KubernetesEndpoints.Group(addresses: addresses, ports: ports)])
  }

  private struct Item: FieldDecodable {
    let addresses: [String]
    let isReady: Bool
    let zone: String
    init(_ fields: inout Fields) {
      addresses = fields.strings("addresses")
      let conditions: Conditions? = fields.object("conditions")
      isReady = conditions?.isReady ?? true
      zone = fields.string("zone") ?? ""
      fields.ignoreOthers()
    }
  }
  private struct Conditions: FieldDecodable {
    let isReady: Bool
    init(_ fields: inout Fields) {
      isReady = fields.bool("ready") ?? true
      fields.ignoreOthers()
    }
  }
}

extension KubernetesEndpoints.Port: FieldDecodable {
  init(_ fields: inout Fields) {
    name = fields.string("name") ?? ""
    port = fields.port("port") ?? 0
    fields.ignoreOthers()
  }
}
