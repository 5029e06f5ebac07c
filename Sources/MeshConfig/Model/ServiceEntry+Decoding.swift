extension ServiceEntry: FieldDecodable {
  init(_ fields: inout Fields) {
    hosts = fields.strings("hosts")
    addresses = fields.strings("addresses")
    ports = fields.list("ports")
    location = fields.name("location") ?? .meshExternal
    resolution = fields.name("resolution") ?? .none
    endpoints = fields.list("endpoints")
    workloadSelector = (fields.object("workloadSelector") as WorkloadSelector?)?.labels
    subjectAltNames = fields.strings("subjectAltNames")
    exportTo = fields.strings("exportTo")
  }
}

extension ServiceEntry.Port: FieldDecodable {
  private enum ProtocolName: String, CaseIterable {
    case http = "HTTP"
    case https = "HTTPS"
    case grpc = "GRPC"
    case grpcWeb = "GRPC-WEB"
    case http2 = "HTTP2"
    case mongo = "MONGO"
    case redis = "REDIS"
    case mysql = "MYSQL"
    case tcp = "TCP"
    case udp = "UDP"
    case tls = "TLS"
  }

  init(_ fields: inout Fields) {
    number = fields.requiredPort("number")
    name = fields.requiredString("name")
    `protocol` = (fields.protocolName("protocol") as ProtocolName?)?.rawValue ?? ""
    targetPort = fields.port("targetPort")
  }
}

extension WorkloadEntry: FieldDecodable {
  init(_ fields: inout Fields) { self.init(&fields, needsAddress: true) }

  /// A template's address comes with each workload.
  init(_ fields: inout Fields, needsAddress: Bool) {
    address = fields.string("address") ?? ""
    ports = fields.intMap("ports", in: 1...65535)
    labels = fields.stringMap("labels")
    locality = fields.string("locality") ?? ""
    weight = fields.int("weight", in: 0...Int(UInt32.max)) ?? 1
    serviceAccount = fields.string("serviceAccount") ?? ""
    network = fields.string("network") ?? ""
    if needsAddress && address.isEmpty && network.isEmpty { fields.error("address", "required") }
    for (name, text, maximum) in [
      ("address", address, 256), ("locality", locality, 2048), ("network", network, 2048),
      ("serviceAccount", serviceAccount, 253),
    ] where text.utf8.count > maximum { fields.error(name, "at most \(maximum) bytes") }
    if address.hasPrefix("unix://") {
      let path = address.dropFirst("unix://".count)
      if path.first != "/" && path.first != "@" { fields.error("address", "a Unix socket path starts with '/' or '@'") }
      if path.last == "/" { fields.error("address", "a Unix socket path does not end with '/'") }
      if path.utf8.count > ConfigLimits.socketPathBytesMax {
        fields.error("address", "the path of a Unix socket has at most \(ConfigLimits.socketPathBytesMax) bytes")
      }
      if !ports.isEmpty { fields.error("ports", "a Unix socket has no ports") }
    }
    for entry in ports where !NameForm.isLabel(entry.key.lowercased()) {
      fields.error("ports", "'\(entry.key.prefix(80))' is not a port name")
    }
  }
}
