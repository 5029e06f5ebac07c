/// One virtual host with everything that decided it, so that it is known when it has to be compiled again.
final class HostUnit: Sendable {
  let name: String
  let domains: [String]
  let routes: [Route]
  /// The rules it was compiled from, in their order.
  let rules: [RuleBook.Entry]
  /// What the rules asked of the mesh, and the answers.
  let asked: [(query: DestinationQuery, answer: DestinationAnswer)]
  let findings: [Finding]

  init(
    name: String, domains: [String], routes: [Route], rules: [RuleBook.Entry],
    asked: [(query: DestinationQuery, answer: DestinationAnswer)]
  ) {
    self.name = name
    self.domains = domains
    self.routes = routes
    self.rules = rules
    self.asked = asked
    findings = Self.unresolved(routes)
  }

  /// Destinations of routes that lead nowhere.
  private static func unresolved(_ routes: [Route]) -> [Finding] {
    var result: [Finding] = []
    for route in routes {
      guard let origin = route.origin, case .forward(let destinations) = route.action else { continue }
      for destination in destinations where destination.cluster == nil {
        result.append(
          Finding(
            severity: .warning, code: Finding.Code.referenceNotFound,
            object: "\(origin.kind) \(origin.namespace)/\(origin.name)", path: "spec.http[\(origin.rule)]",
            reason: "no such service, port or subset: \(destination.clusterName); requests get 503 NC"))
      }
    }
    return result
  }
}

/// The virtual hosts of one proxy: units of the last compilation are taken over where nothing they depend on has changed.
struct HostUnits {
  private struct Key: Hashable {
    let scope: String
    let name: String
  }
  private struct TableKey: Hashable {
    let scope: String
    let port: UInt16
  }
  private var known: [Key: HostUnit] = [:]
  private var next: [Key: HostUnit] = [:]
  private var tables: [TableKey: PortUnits] = [:]
  private var nextTables: [TableKey: PortUnits] = [:]
  var tcp = TCPUnits()

  mutating func begin() {
    next = [:]
    nextTables = [:]
  }

  /// Forgets what was not asked for since `begin`.
  mutating func end() {
    known = next
    tables = nextTables
    next = [:]
    nextTables = [:]
  }

  /// The table of a port as it was, changed where units have changed.
  mutating func table(_ port: UInt16, _ units: [HostUnit], scope: String = "") -> RouteTable.PortTable {
    let key = TableKey(scope: scope, port: port)
    let made = tables[key]?.adopting(units) ?? PortUnits(port: port, units: units)
    nextTables[key] = made
    return made.table
  }

  /// The unit called `name`, compiled by `body` unless the last one still holds.
  ///
  /// - Parameters:
  ///   - scope: what `body` reads of the proxy that may change; units of different scopes are different ones.
  ///   - rules: all else that `body` reads besides what it asks of the pool.
  mutating func unit(
    _ name: String, domains: [String], scope: String = "", rules: [RuleBook.Entry], client: ClientScope,
    pool: inout ClusterPool, _ body: (inout ClusterPool) -> [Route]
  ) -> HostUnit {
    let key = Key(scope: scope, name: name)
    if let unit = known[key], unit.rules.elementsEqual(rules, by: ===), unit.domains == domains {
      // All are asked: asking is what keeps a destination.
      var holds = true
      for (query, answer) in unit.asked where pool.destination(query, client: client) != answer { holds = false }
      if holds {
        next[key] = unit
        return unit
      }
    }
    let (routes, queries) = pool.recording(body)
    let asked = queries.map { (query: $0, answer: pool.destination($0, client: client)) }
    let unit = HostUnit(name: name, domains: domains, routes: routes, rules: rules, asked: asked)
    next[key] = unit
    return unit
  }
}

/// The virtual hosts of one port and the table made of them.
struct PortUnits {
  let units: [HostUnit]
  /// Where in the table each unit is; nil when earlier ones have all of its domains.
  private let places: [Int?]
  private(set) var table: RouteTable.PortTable

  init(port: UInt16, units: [HostUnit]) {
    var hosts = VirtualHostTable()
    places = units.map { hosts.add(name: $0.name, domains: $0.domains, routes: $0.routes) }
    table = hosts.portTable(port)
    self.units = units
  }

  private init(units: [HostUnit], places: [Int?], table: RouteTable.PortTable) {
    self.units = units
    self.places = places
    self.table = table
  }

  /// This table with the routes of `units`, when their names and domains are the same; nil otherwise.
  func adopting(_ units: [HostUnit]) -> PortUnits? {
    guard units.count == self.units.count else { return nil }
    var table = table
    for (index, unit) in units.enumerated() where unit !== self.units[index] {
      guard unit.name == self.units[index].name, unit.domains == self.units[index].domains else { return nil }
      if let place = places[index] { table.virtualHosts[place].routes = unit.routes }
    }
    return PortUnits(units: units, places: places, table: table)
  }
}
