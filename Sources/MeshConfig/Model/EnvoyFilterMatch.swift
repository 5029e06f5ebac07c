/// What a patch of an EnvoyFilter looks for in Envoy's configuration: checked for form, so that a misspelt field is found, and kept.
enum EnvoyFilterMatch {
  struct Proxy: FieldDecodable {
    init(_ fields: inout Fields) {
      if let version = fields.text("proxyVersion") { fields.checkPattern("proxyVersion", version) }
      _ = fields.stringMap("metadata")
    }
  }

  struct Cluster: FieldDecodable {
    init(_ fields: inout Fields) {
      for name in ["name", "service", "subset"] { _ = fields.string(name) }
      fields.portNumber()
    }
  }

  struct Listener: FieldDecodable {
    init(_ fields: inout Fields) {
      for name in ["name", "portName", "listenerFilter"] { _ = fields.string(name) }
      fields.portNumber()
      _ = fields.object("filterChain") as Chain?
    }
  }

  private struct Chain: FieldDecodable {
    init(_ fields: inout Fields) {
      for name in ["name", "sni", "transportProtocol", "applicationProtocols", "transportSocket"] { _ = fields.string(name) }
      _ = fields.int("destinationPort", in: 0...Int(UInt32.max))
      _ = fields.object("filter") as Filter?
    }
  }

  private struct Filter: FieldDecodable {
    init(_ fields: inout Fields) {
      _ = fields.string("name")
      _ = fields.object("subFilter") as Named?
    }
  }

  private struct Named: FieldDecodable {
    init(_ fields: inout Fields) { _ = fields.string("name") }
  }

  struct Routes: FieldDecodable {
    init(_ fields: inout Fields) {
      for name in ["name", "portName", "gateway"] { _ = fields.string(name) }
      fields.portNumber()
      _ = fields.object("vhost") as Host?
    }
  }

  private struct Host: FieldDecodable {
    init(_ fields: inout Fields) {
      for name in ["name", "domainName"] { _ = fields.string(name) }
      _ = fields.object("route") as Route?
    }
  }

  private struct Route: FieldDecodable {
    private enum Action: String, CaseIterable {
      case any = "ANY"
      case route = "ROUTE"
      case redirect = "REDIRECT"
      case directResponse = "DIRECT_RESPONSE"
    }
    init(_ fields: inout Fields) {
      _ = fields.string("name")
      _ = fields.name("action") as Action?
    }
  }

  struct Waypoint: FieldDecodable {
    init(_ fields: inout Fields) {
      _ = fields.port("portNumber")
      _ = fields.object("filter") as Filter?
      _ = fields.object("route") as Named?
    }
  }
}

extension Fields {
  fileprivate mutating func portNumber() { _ = int("portNumber", in: 0...Int(UInt32.max)) }
}
