import Primitives

/// One virtual host with everything that decides it, so that its routes can be compiled when a request needs them, and it is known
/// when others have to take their place.
final class HostUnit: Sendable {
  let host: String
  let port: UInt16
  let domains: [String]
  let content: CallByNeed<HostRoutes>
  /// The rules its routes are compiled from, in their order.
  let rules: [RuleBook.Entry]
  /// What the rules ask of the mesh, and the answers.
  let asked: [Asked]
  let findings: [Finding]

  typealias Asked = (query: DestinationQuery, answer: DestinationAnswer)

  /// What another unit is, under other domains.
  init(_ other: HostUnit, domains: [String]) {
    host = other.host
    port = other.port
    self.domains = domains
    content = other.content
    rules = other.rules
    asked = other.asked
    findings = other.findings
  }

  init(
    _ host: String, port: UInt16, domains: [String], content: CallByNeed<HostRoutes>, rules: [RuleBook.Entry], asked: [Asked]
  ) {
    self.host = host
    self.port = port
    self.domains = domains
    self.content = content
    self.rules = rules
    self.asked = asked
    // What leads nowhere is told whether it is called or not.
    findings = asked.contains { $0.answer.cluster == nil } ? Self.unresolved(content.glimpse.routes) : []
  }

  /// Istio's naming.
  var name: String { "\(host):\(port)" }

  func isCalled(_ other: HostUnit) -> Bool { port == other.port && host == other.host }

  /// Whether everything that was asked is still answered so.
  ///
  /// - Parameter hosts: those that may lead elsewhere than when it was asked; nil: all.
  func holds(for client: ClientScope, _ pool: inout ClusterPool, unless hosts: Set<String>?) -> Bool {
    asked.allSatisfy { query, answer in
      hosts.map { !$0.contains(query.host) } ?? false || pool.destination(query, client: client) == answer
    }
  }

  func asks(_ hosts: Set<String>) -> Bool { asked.contains { hosts.contains($0.query.host) } }

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
    let host: String
    let port: UInt16
  }
  private struct TableKey: Hashable {
    let scope: String
    let port: UInt16
  }
  private var known: [Key: HostUnit] = [:]
  /// Of the compilation before, while one goes on.
  private var last: [Key: HostUnit] = [:]
  private var tables: [TableKey: PortUnits] = [:]
  private var lastTables: [TableKey: PortUnits] = [:]
  /// Of another client: what is alike is kept once.
  private var peers: [Key: HostUnit] = [:]
  private var peerTables: [TableKey: PortUnits] = [:]
  /// Units made since the beginning, and those of them that were compiled at once.
  private(set) var compiled = 0
  private(set) var warmed = 0
  var tcp = TCPUnits()
  /// Hosts that may lead elsewhere than they did for the units that are known; nil: all.
  private var concerned: Set<String>? = []

  /// Begins a compilation of all units: what is not asked for until `end` is forgotten.
  mutating func begin() {
    (last, lastTables) = (known, tables)
    (known, tables) = ([:], [:])
  }

  mutating func end() { (last, lastTables) = ([:], [:]) }

  /// Takes over from another client what holds for this one, too, while `body` runs.
  ///
  /// - Parameter concerned: hosts that may lead elsewhere than before; nil: all.
  mutating func sharing<Result>(
    with peer: HostUnits?, concerned: Set<String>?, _ body: (inout HostUnits) -> Result
  ) -> Result {
    self.concerned = concerned
    tcp.concerned = concerned
    (peers, peerTables) = (peer?.known ?? [:], peer?.tables ?? [:])
    tcp.peers = peer?.tcp.known ?? [:]
    tcp.peerTables = peer?.tcp.tables ?? [:]
    defer {
      (peers, peerTables) = ([:], [:])
      (tcp.peers, tcp.peerTables) = ([:], [:])
      (self.concerned, tcp.concerned) = ([], [])
    }
    return body(&self)
  }

  /// Names of the units that lead to one of these hosts.
  func asking(_ hosts: Set<String>) -> Set<String> {
    if hosts.isEmpty { return [] }
    var found = Set(tcp.known.values.filter { $0.asks(hosts) }.map(\.service.host))
    for unit in known.values where unit.asks(hosts) { found.insert(unit.host) }
    return found
  }

  /// Of the units in tables, by port.
  var findings: [Finding] {
    tables.keys.sorted { ($0.port, $0.scope) < ($1.port, $1.scope) }.flatMap { tables[$0]?.findings ?? [] }
  }

  /// The table of a port as it was, changed where units have changed.
  mutating func table(_ port: UInt16, _ units: [HostUnit], scope: String = "") -> RouteTable.PortTable {
    let key = TableKey(scope: scope, port: port)
    let made = lastTables[key]?.adopting(units) ?? peerTables[key]?.adopting(units) ?? PortUnits(port: port, units: units)
    tables[key] = made
    return made.table
  }

  /// The table of a port with another unit in the place of the one of its name; nil when it is there already, or there is none.
  mutating func replace(_ unit: HostUnit, port: UInt16, scope: String = "") -> RouteTable.PortTable? {
    let key = TableKey(scope: scope, port: port)
    guard tables[key]?.replace(unit) == true else { return nil }
    return tables[key]?.table
  }

  /// The unit of a host and port; the last one if it still holds.
  ///
  /// - Parameters:
  ///   - scope: what `compile` reads of the proxy that may change; units of different scopes are different ones.
  ///   - rules: all else that `compile` reads besides the answers to `queries`.
  ///   - queries: whatever `compile` may want to know.
  mutating func unit(
    _ host: String, port: UInt16, domains: [String], scope: String = "", rules: [RuleBook.Entry], client: ClientScope,
    pool: inout ClusterPool, queries: () -> [DestinationQuery],
    compile: @escaping @Sendable (DestinationAnswers) -> [Route]
  ) -> HostUnit {
    let key = Key(scope: scope, host: host, port: port)
    let earlier = last[key] ?? known[key]
    if let unit = earlier, unit.rules.elementsEqual(rules, by: ===), unit.domains == domains,
      unit.holds(for: client, &pool, unless: concerned)
    {
      known[key] = unit
      return unit
    }
    if let unit = peers[key], unit.rules.elementsEqual(rules, by: ===), !rules.contains(where: \.dependsOnClient),
      unit.holds(for: client, &pool, unless: nil)
    {
      let same = unit.domains == domains ? unit : HostUnit(unit, domains: domains)
      known[key] = same
      return same
    }
    compiled += 1
    var seen: Set<DestinationQuery> = []
    let asked = queries().filter { seen.insert($0).inserted }.map { (query: $0, answer: pool.destination($0, client: client)) }
    let answers = DestinationAnswers(asked)
    let content = CallByNeed { HostRoutes(compile(answers)) }
    if earlier?.content.isMade == true {
      // Who has been called stays ready to be called.
      warmed += 1
      _ = content.value
    }
    let unit = HostUnit(host, port: port, domains: domains, content: content, rules: rules, asked: asked)
    known[key] = unit
    return unit
  }
}

/// Where destinations lead, as the mesh has answered.
struct DestinationAnswers: Sendable {
  private let asked: [HostUnit.Asked]

  init(_ asked: [HostUnit.Asked]) { self.asked = asked }

  /// For a query that was asked.
  subscript(_ query: DestinationQuery) -> DestinationAnswer {
    if let known = asked.first(where: { $0.query == query }) { return known.answer }
    let name = ClusterPool.name(host: query.host, port: query.port ?? query.listenerPort, subset: query.subset)
    return DestinationAnswer(cluster: nil, name: name)
  }
}

/// The virtual hosts of one port and the table made of them.
struct PortUnits {
  private(set) var units: [HostUnit]
  /// Where in the table each unit is; nil when earlier ones have all of its domains.
  private let places: [Int?]
  private(set) var table: RouteTable.PortTable

  init(port: UInt16, units: [HostUnit]) {
    var hosts = VirtualHostTable()
    places = units.map { hosts.add(name: $0.name, domains: $0.domains, content: $0.content) }
    table = hosts.portTable(port)
    self.units = units
  }

  private init(units: [HostUnit], places: [Int?], table: RouteTable.PortTable) {
    self.units = units
    self.places = places
    self.table = table
  }

  var findings: [Finding] { units.flatMap(\.findings) }

  /// Puts a unit in the place of the one that has its name and domains. False when it is there already.
  mutating func replace(_ unit: HostUnit) -> Bool {
    guard let index = units.firstIndex(where: unit.isCalled), units[index] !== unit, units[index].domains == unit.domains else {
      return false
    }
    units[index] = unit
    if let place = places[index] { table.virtualHosts[place].content = unit.content }
    return true
  }

  /// This table with the routes of `units`, when their names and domains are the same; nil otherwise.
  func adopting(_ units: [HostUnit]) -> PortUnits? {
    guard units.count == self.units.count else { return nil }
    var table = table
    for (index, unit) in units.enumerated() where unit !== self.units[index] {
      guard unit.isCalled(self.units[index]), unit.domains == self.units[index].domains else { return nil }
      if let place = places[index] { table.virtualHosts[place].content = unit.content }
    }
    return PortUnits(units: units, places: places, table: table)
  }
}
