import Primitives

/// One service port for opaque connections, with everything that decided it.
final class TCPUnit: Sendable {
  let service: TCPService
  /// Names and addresses that clients write for it.
  let names: [String]
  let rules: RuleBook.Entry?
  let asked: [(query: DestinationQuery, answer: DestinationAnswer)]

  init(
    _ service: TCPService, names: [String], rules: RuleBook.Entry?,
    asked: [(query: DestinationQuery, answer: DestinationAnswer)]
  ) {
    self.service = service
    self.names = names
    self.rules = rules
    self.asked = asked
  }

  /// Whether everything that was asked is still answered so.
  ///
  /// - Parameter hosts: those that may lead elsewhere than when it was asked; nil: all.
  func holds(for client: ClientScope, _ pool: inout ClusterPool, unless hosts: Set<String>?) -> Bool {
    asked.allSatisfy { query, answer in
      hosts.map { !$0.contains(query.host) } ?? false || pool.destination(query, client: client) == answer
    }
  }

  func asks(_ hosts: Set<String>) -> Bool { asked.contains { hosts.contains($0.query.host) } }
}

/// The service ports of one client: what a change does not touch is taken over, as in `HostUnits`.
struct TCPUnits {
  struct Key: Hashable {
    let host: String
    let port: UInt16
  }
  private(set) var known: [Key: TCPUnit] = [:]
  private var next: [Key: TCPUnit] = [:]
  private(set) var tables: [UInt16: (units: [TCPUnit], table: TCPRouteTable.PortTable)] = [:]
  /// Of another client: what is alike is kept once.
  var peers: [Key: TCPUnit] = [:]
  var peerTables: [UInt16: (units: [TCPUnit], table: TCPRouteTable.PortTable)] = [:]
  private var nextTables: [UInt16: (units: [TCPUnit], table: TCPRouteTable.PortTable)] = [:]

  /// Hosts that may lead elsewhere than they did for the units that are known; nil: all.
  var concerned: Set<String>? = []

  mutating func begin() {
    next = [:]
    nextTables = [:]
  }

  mutating func end() {
    known = next
    tables = nextTables
    next = [:]
    nextTables = [:]
  }

  /// The unit of a service port; the last one if it still holds.
  ///
  /// - Parameters:
  ///   - query: asks for the service itself, where everything goes that no rule has.
  ///   - body: compiles the rules.
  mutating func unit(
    _ service: Service, _ port: Service.Port, names: [String], rules: RuleBook.Entry?, query: DestinationQuery,
    client: ClientScope, pool: inout ClusterPool, _ body: (RuleBook.Entry, inout ClusterPool) -> [TCPRoute]
  ) -> TCPUnit {
    let key = Key(host: service.host, port: port.number)
    let address = service.addresses.first.flatMap { AddressForm.parse($0) } ?? []
    let candidates = [(known[key], concerned), (rules?.dependsOnClient == true ? nil : peers[key], nil)]
    for (unit, concerned) in candidates {
      guard let unit, unit.rules === rules, unit.names == names, unit.service.protocol == port.protocol,
        unit.service.address == address, unit.service.blocks == service.blocks,
        unit.holds(for: client, &pool, unless: concerned)
      else { continue }
      next[key] = unit
      return unit
    }
    let (routes, queries) = pool.recording { pool in rules.map { body($0, &pool) } ?? [] }
    let own = pool.destination(query, client: client)
    // Most services have no rules, and few are ever called.
    let content = CallByNeed { TCPRoutes(routes + [TCPRoute(to: own)]) }
    var made = TCPService(host: service.host, protocol: port.protocol, address: address, content: content)
    made.blocks = service.blocks
    let asked = (queries + [query]).map { (query: $0, answer: pool.destination($0, client: client)) }
    let unit = TCPUnit(made, names: names, rules: rules, asked: asked)
    next[key] = unit
    return unit
  }

  /// The table of a port with other units in the places of those of their names; nil when they are there already.
  mutating func replace(_ units: [TCPUnit], port: UInt16) -> TCPRouteTable.PortTable? {
    var isOther = false
    for unit in units {
      known[Key(host: unit.service.host, port: port)] = unit
      guard let index = tables[port]?.units.firstIndex(where: { $0.service.host == unit.service.host }),
        tables[port]?.units[index] !== unit
      else { continue }
      tables[port]?.units[index] = unit
      tables[port]?.table.services[index] = unit.service
      isOther = true
    }
    return isOther ? tables[port]?.table : nil
  }

  /// The table of a port; the last one when its units are the same.
  mutating func table(_ port: UInt16, _ units: [TCPUnit], _ serverNames: [ServerNameRoute]) -> TCPRouteTable.PortTable {
    var table: TCPRouteTable.PortTable
    if let known = [tables[port], peerTables[port]].lazy.compactMap({ $0 }).first(where: {
      $0.units.elementsEqual(units, by: ===)
    }) {
      table = known.table
    } else {
      var names: [(key: [UInt8], value: Int)] = []
      for (index, unit) in units.enumerated() { names += unit.names.map { (Array($0.utf8), index) } }
      table = TCPRouteTable.PortTable(port: port, services: units.map(\.service), hosts: ByteTable(names), serverNames: [])
    }
    table.serverNames = serverNames
    nextTables[port] = (units, table)
    return table
  }
}

extension TCPRoute {
  /// Everything to one destination.
  init(to target: DestinationAnswer) {
    self.init(origin: nil, destinations: [WeightedDestination(cluster: target.cluster, clusterName: target.name, weight: 1)])
  }
}
