extension PortProtocol {
  /// What a port speaks by its name, else by its number (Istio, protocol selection).
  public init(portName: String, number: UInt16) {
    self = ProtocolSelection.select(appProtocol: nil, name: portName, number: number)
  }
}

/// What a port speaks, from its declaration (Istio, protocol selection).
enum ProtocolSelection {
  static func select(appProtocol: String?, name: String, number: UInt16) -> PortProtocol {
    if let appProtocol, let known = named(appProtocol.lowercased()) { return known }
    let lowered = name.lowercased()
    if lowered == "grpc-web" || lowered.hasPrefix("grpc-web-") { return .http }
    if let known = named(String(lowered.prefix { $0 != "-" })) { return known }
    // Protocols in which the server speaks first, or that are not HTTP.
    return [25, 53, 3306, 27017].contains(number) ? .tcp : .auto
  }

  private static func named(_ name: String) -> PortProtocol? {
    switch name {
    case "http", "http_proxy", "kubernetes.io/ws", "grpc-web": .http
    case "http2", "kubernetes.io/h2c": .http2
    case "grpc": .grpc
    case "https", "kubernetes.io/wss": .https
    case "tls": .tls
    case "tcp", "mongo", "mysql", "redis": .tcp
    default: nil
    }
  }
}
