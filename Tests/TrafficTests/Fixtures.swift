import MeshConfig
import Primitives
import Traffic

/// A request made of strings.
struct TestRequest: RequestView {
  private var bytes: [UInt8] = []
  private(set) var methodName = 0..<0
  private(set) var path = 0..<0
  private(set) var query: Range<Int>?
  private(set) var target = 0..<0
  private(set) var authority = 0..<0
  private(set) var host = 0..<0
  private(set) var port: UInt16?
  private var fields: [(name: [UInt8], value: Range<Int>)] = []

  init(_ method: String = "GET", _ target: String = "/", authority: String = "reviews", headers: [(String, String)] = []) {
    methodName = append(method)
    self.target = append(target)
    let mark = bytes[self.target].firstIndex(of: 0x3F)
    path = self.target.lowerBound..<(mark ?? self.target.upperBound)
    query = mark.map { ($0 + 1)..<self.target.upperBound }
    self.authority = append(authority)
    let colon = bytes[self.authority].lastIndex(of: 0x3A)
    host = self.authority.lowerBound..<(colon ?? self.authority.upperBound)
    port = colon.flatMap { UInt16(String(decoding: bytes[($0 + 1)..<self.authority.upperBound], as: UTF8.self)) }
    for (name, value) in headers { fields.append((Array(name.lowercased().utf8), append(value))) }
  }

  private mutating func append(_ text: String) -> Range<Int> {
    let start = bytes.count
    bytes.append(contentsOf: text.utf8)
    return start..<bytes.count
  }

  func withBytes<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(bytes.span) }

  func nextHeader(named name: [UInt8], from cursor: inout Int) -> Range<Int>? {
    while cursor < fields.count {
      cursor += 1
      if fields[cursor - 1].name == name { return fields[cursor - 1].value }
    }
    return nil
  }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

func text(_ bytes: [UInt8]?) -> String? { bytes.map { String(decoding: $0, as: UTF8.self) } }

/// A route to cluster `cluster` with the conditions given.
func route(
  _ name: String, _ matches: [RouteMatch] = [], to cluster: Int? = 0, kind: String = "VirtualService"
) -> Route {
  Route(
    name: name, origin: RouteOrigin(kind: kind, namespace: "default", name: "rules", rule: 0), matches: matches,
    action: .forward([WeightedDestination(cluster: cluster, clusterName: "outbound|80||\(name)", weight: 1)]))
}

/// A table with one port; a domain that starts with `*` is a wildcard.
func table(
  port: UInt16 = 80, _ hosts: [(domains: [String], routes: [Route])], fallback: RouteTable.Fallback = .notFound,
  byNeed: Bool = false
) -> RouteTable {
  let virtualHosts = hosts.map { host in
    VirtualHost(
      name: "\(host.domains[0]):\(port)", domains: host.domains,
      content: byNeed ? CallByNeed { HostRoutes(host.routes) } : CallByNeed(HostRoutes(host.routes)))
  }
  var exact: [(key: [UInt8], value: Int)] = []
  var wildcards: [(suffix: [UInt8], virtualHost: Int)] = []
  for (index, host) in hosts.enumerated() {
    for domain in host.domains {
      if domain.hasPrefix("*") {
        wildcards.append((Array(domain.utf8.dropFirst()), index))
      } else {
        exact.append((bytes(domain), index))
      }
    }
  }
  wildcards.sort { $0.suffix.count > $1.suffix.count }
  let portTable = RouteTable.PortTable(
    port: port, virtualHosts: virtualHosts, exact: ByteTable(exact), wildcards: wildcards)
  return RouteTable(ports: [portTable], fallback: fallback)
}

/// The name of the route a request takes; nil when none matches.
func routeName(_ request: TestRequest, _ table: RouteTable, port: UInt16 = 80, isHTTPS: Bool = false) -> String? {
  var draws = SeededGenerator(seed: 1)
  let plan = Router.route(request, RequestContext(port: port, isHTTPS: isHTTPS), in: table, draws: &draws)
  return plan.route.map { table[$0].name }
}

/// Whether a request meets one alternative.
func matches(_ match: RouteMatch, _ request: TestRequest, isHTTPS: Bool = false) -> Bool {
  routeName(request, table([(["*"], [route("it", [match])])]), isHTTPS: isHTTPS) != nil
}

func pattern(_ source: String) throws -> Pattern { try Pattern(source) }

func endpoint(
  _ key: UInt64, weight: UInt32 = 1, priority: Int = 0, health: EndpointHealth = .healthy, locality: String? = nil
) -> Endpoint {
  Endpoint(
    key: key, address: "10.0.0.\(key)", port: 9080, workload: nil, isLocal: false, mesh: nil,
    locality: Locality(parsing: locality ?? "r/z/\(priority)"), priority: priority, weight: weight, health: health)
}

func cluster(
  _ endpoints: [Endpoint], _ algorithm: LoadBalancerPolicy.Algorithm = .leastRequest, outliers: OutlierPolicy? = nil,
  warmup: LoadBalancerPolicy.Warmup? = nil, discovery: Cluster.Discovery = .listed
) -> Cluster {
  Cluster(
    name: "outbound|9080||reviews.default.svc.cluster.local", service: nil, host: "reviews.default.svc.cluster.local",
    port: 9080, subset: nil, protocol: .http, discovery: discovery, endpoints: endpoints,
    loadBalancer: LoadBalancerPolicy(algorithm: algorithm, warmup: warmup), connectionPool: ConnectionPoolPolicy(),
    outlierDetection: outliers, tls: .automatic, destinationRule: nil)
}

extension Instant {
  static func seconds(_ seconds: Double) -> Instant { Instant(nanoseconds: UInt64(seconds * 1e9)) }
}

/// Whether `count` of `trials` is within four standard deviations of probability `p`.
func isPlausible(_ count: Int, of trials: Int, p: Double) -> Bool {
  let deviation = (Double(trials) * p * (1 - p)).squareRoot()
  return abs(Double(count) - Double(trials) * p) <= 4 * max(deviation, 0.5)
}

extension LoadBalancer {
  /// A balancer that shares with nobody.
  convenience init(_ cluster: Cluster, now: Instant) {
    self.init(cluster, Shared([cluster], now: now))
  }

  convenience init(_ cluster: Cluster, _ shared: Shared) { self.init(cluster, shared.entry) }
}

/// What several balancers of one cluster share, over snapshots.
final class Shared {
  private(set) var table: LoadTable
  private var cluster: Cluster
  init(_ clusters: [Cluster], now: Instant) {
    cluster = clusters[0]
    table = LoadTable(clusters, now: now)
  }

  var entry: LoadTable.Entry { table.entry(0, of: cluster) }

  func update(_ cluster: Cluster, _ balancers: LoadBalancer..., now: Instant) {
    _ = entry
    self.cluster = cluster
    table = LoadTable([cluster], after: table, now: now)
    for balancer in balancers { balancer.update(cluster, entry) }
  }
}
