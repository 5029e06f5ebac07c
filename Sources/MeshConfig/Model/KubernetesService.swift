/// A Kubernetes `Service`, as far as it describes the mesh: its ports and the workloads behind it.
public struct KubernetesService: Hashable, Sendable {
  public var ports: [Port]
  /// Labels of the workloads; empty: none are selected by label.
  public var selector: [String: String]
  /// Virtual addresses; `None` is left out.
  public var clusterIPs: [String]
  /// The name it stands for, of the mesh or outside of it.
  public var externalName: String?
  /// `sessionAffinity: ClientIP`: one client's connections and requests go to one endpoint.
  public var isSticky: Bool
  /// `PreferClose`, `PreferSameZone` or `PreferSameNode`.
  public var trafficDistribution: String?

  public struct Port: Hashable, Sendable {
    public var name: String
    public var port: UInt16
    public var targetPort: IntOrString?
    public var appProtocol: String?
    public var isUDP: Bool
  }
}

extension KubernetesService: FieldDecodable {
  init(_ fields: inout Fields) {
    ports = fields.list("ports")
    selector = fields.stringMap("selector")
    let addresses = fields.strings("clusterIPs") + [fields.string("clusterIP") ?? ""]
    clusterIPs = Array(Set(addresses.filter { AddressForm.isAddress($0) })).sorted()
    let type = fields.string("type") ?? "ClusterIP"
    let external = fields.string("externalName")
    externalName = type == "ExternalName" ? external : nil
    if let externalName, !NameForm.isHost(externalName.lowercased()) {
      fields.error("externalName", "'\(externalName.prefix(80))' is not a host name")
    }
    trafficDistribution = fields.text("trafficDistribution")
    isSticky = (fields.name("sessionAffinity") as SessionAffinity?) == .clientIP
    let config: SessionAffinityConfig? = fields.object("sessionAffinityConfig")
    if config?.hasTimeout == true && !isSticky {
      fields.error("sessionAffinityConfig", "belongs to sessionAffinity: ClientIP")
    }
    // Kubernetes owns this schema and adds to it; what is not read here does not describe the mesh.
    fields.ignoreOthers()
  }
}

private enum SessionAffinity: String, CaseIterable {
  case none = "None"
  case clientIP = "ClientIP"
}

/// How long a client without traffic is remembered. The choice here follows from the client's address alone, so that it holds
/// longer than any such time, for as long as the endpoints are the same.
private struct SessionAffinityConfig: FieldDecodable {
  var hasTimeout = false
  init(_ fields: inout Fields) {
    let client: ClientIP? = fields.object("clientIP")
    hasTimeout = client?.timeout != nil
    fields.ignoreOthers()
  }
  private struct ClientIP: FieldDecodable {
    let timeout: Int?
    init(_ fields: inout Fields) { timeout = fields.int("timeoutSeconds", in: 1...86_400) }
  }
}

extension KubernetesService.Port: FieldDecodable {
  init(_ fields: inout Fields) {
    name = fields.string("name") ?? ""
    port = fields.requiredPort("port")
    targetPort = fields.intOrString("targetPort")
    appProtocol = fields.text("appProtocol")
    let transport = fields.string("protocol") ?? "TCP"
    isUDP = transport == "UDP"
    if !["TCP", "UDP", "SCTP"].contains(transport) { fields.error("protocol", "must be TCP, UDP or SCTP") }
    fields.ignoreOthers()
  }
}
