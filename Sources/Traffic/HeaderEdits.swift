import MeshConfig
import Primitives

/// What can have its header fields changed. Names are lower case.
public protocol HeaderFields {
  mutating func removeHeader(named name: [UInt8])
  mutating func addHeader(named name: [UInt8], value: [UInt8])
}

extension HeaderOperations {
  /// Applies the operations in Istio's order: remove, set, add. `host` and `:authority` are left to `authority(of:_:)`.
  public func apply(to fields: inout some HeaderFields) {
    for name in remove { fields.removeHeader(named: name) }
    for field in set where !Self.namesAuthority(field.name) {
      fields.removeHeader(named: field.name)
      fields.addHeader(named: field.name, value: field.value)
    }
    for field in add where !Self.namesAuthority(field.name) { fields.addHeader(named: field.name, value: field.value) }
  }

  /// The value these operations give to the authority, where it is the same for every message; `set` beats `add`.
  fileprivate var authority: [UInt8]? {
    let chosen = self.set.last { Self.namesAuthority($0.name) } ?? add.last { Self.namesAuthority($0.name) }
    return chosen.flatMap { $0.format == nil ? $0.value : nil }
  }

  fileprivate static func namesAuthority(_ name: [UInt8]) -> Bool {
    name.elementsEqual("host".utf8) || name.elementsEqual(":authority".utf8)
  }
}

extension Route {
  /// The authority to send upstream, or nil to keep the client's: `rewrite.authority`, then the route's header operations, then the
  /// chosen destination's (Istio, VirtualService).
  public func authority(destination: Int) -> [UInt8]? {
    if let authority = rewrite?.authority ?? requestHeaders.authority { return authority }
    guard case .forward(let destinations) = action, destinations.indices.contains(destination) else { return nil }
    return destinations[destination].requestHeaders.authority
  }
}
