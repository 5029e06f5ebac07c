extension MeshObject {
  /// The object's YAML with the status that the mesh gives it; without one as it was written.
  public func yaml(status: YAMLNode?) -> String { document(status).map(YAMLText.document) ?? yaml }

  /// The same as JSON.
  public func json(status: YAMLNode?) -> String {
    String(decoding: document(status).map(JSONText.canonical) ?? canonical, as: UTF8.self)
  }

  private func document(_ status: YAMLNode?) -> YAMLNode? {
    guard let status, let document = YAMLParser.parse(canonical).documents.first,
      case .mapping(let entries) = document.value
    else { return nil }
    let entry = YAMLEntry(key: "status", position: document.position, value: status)
    return YAMLNode(.mapping(entries + [entry]), at: document.position)
  }

  /// A virtual address that the mesh gave to one of a ServiceEntry's hosts.
  public struct AllocatedAddress: Hashable, Sendable {
    public let host: String
    public let value: String
  }

  /// The addresses that this ServiceEntry's hosts were given, in the order of its hosts; empty for every other object, and where
  /// addresses are written.
  ///
  /// - Parameter addressOf: the IPv4 address that is allocated to a host, which is in lower case.
  public func allocatedAddresses(_ addressOf: (String) -> String?) -> [AllocatedAddress] {
    guard case .serviceEntry(let entry) = spec else { return [] }
    return entry.hosts.flatMap { written -> [AllocatedAddress] in
      let host = written.lowercased()
      guard VirtualAddress.isAllocated(to: entry, host: host, meta), let first = addressOf(host) else { return [] }
      return VirtualAddress.all(first).map { AllocatedAddress(host: host, value: $0) }
    }
  }
}

extension YAMLNode {
  /// `status` of a ServiceEntry whose hosts have these addresses (Istio, `ServiceEntryStatus`); nil when there are none.
  public static func status(of addresses: [MeshObject.AllocatedAddress]) -> YAMLNode? {
    guard !addresses.isEmpty else { return nil }
    return .map([("addresses", .list(addresses.map { .map([("host", .text($0.host)), ("value", .text($0.value))]) }))])
  }
}
