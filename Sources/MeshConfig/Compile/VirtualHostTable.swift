import Primitives

/// Collects virtual hosts of one port and indexes them by domain.
struct VirtualHostTable {
  private var virtualHosts: [VirtualHost] = []
  private var claimed: Set<String> = []

  var isEmpty: Bool { virtualHosts.isEmpty }

  /// Adds a virtual host; a domain that an earlier one claimed stays with that one. Returns its index, nil when nothing
  /// is left for it.
  @discardableResult mutating func add(name: String, domains: [String], content: CallByNeed<HostRoutes>) -> Int? {
    let free = domains.filter { claimed.insert($0).inserted }
    guard !free.isEmpty else { return nil }
    virtualHosts.append(VirtualHost(name: name, domains: free, content: content))
    return virtualHosts.count - 1
  }

  func portTable(_ port: UInt16) -> RouteTable.PortTable {
    var exact: [(key: [UInt8], value: Int)] = []
    var wildcards: [(suffix: [UInt8], virtualHost: Int)] = []
    for (index, host) in virtualHosts.enumerated() {
      for domain in host.domains {
        if domain.hasPrefix("*") {
          wildcards.append((Array(domain.utf8.dropFirst()), index))
        } else {
          exact.append((Array(domain.utf8), index))
        }
      }
    }
    wildcards.sort { a, b in
      a.suffix.count != b.suffix.count ? a.suffix.count > b.suffix.count : a.suffix.lexicographicallyPrecedes(b.suffix)
    }
    return RouteTable.PortTable(port: port, virtualHosts: virtualHosts, exact: ByteTable(exact), wildcards: wildcards)
  }
}
