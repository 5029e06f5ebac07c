/// A Kubernetes `Service`, as far as it describes the mesh: its ports and the workloads behind it.
public struct KubernetesService: Hashable, Sendable {
  public var ports: [Port]
  /// Labels of the workloads; empty: none are selected by label.
  public var selector: [String: String]
  /// Virtual addresses; `None` is left out.
  public var clusterIPs: [String]
  public var externalName: String?
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
    if externalName != nil {
      fields.report.notEnforced(fields.path / "externalName", "the name is not resolved: write a ServiceEntry")
    }
    trafficDistribution = fields.text("trafficDistribution")
    if fields.text("sessionAffinity") == "ClientIP" {
      fields.report.notEnforced(
        fields.path / "sessionAffinity", "each request picks its endpoint: write a DestinationRule with useSourceIp")
    }
    // Kubernetes owns this schema and adds to it; what is not read here does not describe the mesh.
    fields.ignoreOthers()
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
