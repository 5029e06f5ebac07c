import FoundationEssentials
import MeshConfig
import Primitives
import Testing
import Traffic

/// A second, naive implementation of host and rule selection on strings and dictionaries, compared on random requests.
private struct NaiveRouter {
  struct Condition {
    var kind: String  // path, ipath, segment, method, header, without, query
    var operation: String  // exact, prefix, present
    var name = ""
    var value = ""
  }
  struct Rule {
    var name: String
    var alternatives: [[Condition]]
  }
  struct Host {
    var domains: [String]
    var rules: [Rule]
  }
  struct Request {
    var method: String
    var path: String
    var query: String?
    var authority: String
    var headers: [(String, String)]
  }

  var hosts: [Host]

  func route(_ request: Request) -> String? {
    let host = request.authority.split(separator: ":").first.map { $0.lowercased() } ?? ""
    var best: (rank: Int, host: Host)?
    for candidate in hosts {
      for domain in candidate.domains {
        let rank: Int
        if domain == host {
          rank = 1_000_000
        } else if domain.hasPrefix("*"), host.hasSuffix(domain.dropFirst()), domain == "*" || host.count > domain.count - 1 {
          rank = domain.count
        } else {
          continue
        }
        if rank > best?.rank ?? 0 { best = (rank, candidate) }
      }
    }
    return best?.host.rules.first { rule in
      rule.alternatives.isEmpty || rule.alternatives.contains { $0.allSatisfy { holds($0, request) } }
    }?.name
  }

  private func holds(_ condition: Condition, _ request: Request) -> Bool {
    func compare(_ text: String?) -> Bool {
      guard let text else { return false }
      switch condition.operation {
      case "exact": return text == condition.value
      case "prefix": return text.hasPrefix(condition.value)
      default: return true
      }
    }
    switch condition.kind {
    case "path": return compare(request.path)
    case "ipath":
      let path = request.path.lowercased()
      let value = condition.value.lowercased()
      return condition.operation == "exact" ? path == value : path.hasPrefix(value)
    case "segment":
      let wanted = condition.value.split(separator: "/")
      return Array(request.path.split(separator: "/", omittingEmptySubsequences: false).dropFirst().prefix(wanted.count))
        .elementsEqual(wanted)
    case "method": return compare(request.method)
    case "header":
      let values = request.headers.filter { $0.0 == condition.name }.map(\.1)
      return compare(values.isEmpty ? nil : values.joined(separator: ","))
    case "without":
      let values = request.headers.filter { $0.0 == condition.name }.map(\.1)
      return condition.operation == "present" ? values.isEmpty : !compare(values.joined(separator: ","))
    default:
      let pairs = (request.query ?? "").split(separator: "&", omittingEmptySubsequences: true).map {
        $0.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      }
      return compare(pairs.first { $0[0] == condition.name }.map { $0.count > 1 ? $0[1] : "" })
    }
  }
}

private struct Draw {
  var generator: SeededGenerator

  mutating func one<T>(_ list: [T]) -> T { list[generator.index(below: list.count)] }

  let domains = ["a", "b", "a.x.com", "*.x.com", "*.b.x.com", "*.com", "*", "c.b.x.com"]
  let paths = ["/", "/a", "/A", "/a/", "/a/b", "/ab", "/a/b/c", "/b"]
  let values = ["", "1", "12", "x"]

  mutating func condition() -> NaiveRouter.Condition {
    let operation = one(["exact", "prefix", "present"])
    switch one(["path", "path", "ipath", "segment", "method", "header", "without", "query"]) {
    case "path": return .init(kind: "path", operation: one(["exact", "prefix"]), value: one(paths))
    case "ipath": return .init(kind: "ipath", operation: one(["exact", "prefix"]), value: one(paths))
    case "segment": return .init(kind: "segment", operation: "prefix", value: one(paths))
    case "method": return .init(kind: "method", operation: one(["exact", "prefix"]), value: one(["GET", "PUT", "P", ""]))
    case "header": return .init(kind: "header", operation: operation, name: one(["x", "y"]), value: one(values))
    case "without": return .init(kind: "without", operation: operation, name: one(["x", "y"]), value: one(values))
    default: return .init(kind: "query", operation: operation, name: one(["q", "r"]), value: one(values))
    }
  }

  mutating func list<T>(_ max: Int, _ make: (inout Draw) -> T) -> [T] {
    let count = generator.index(below: max + 1)
    var list: [T] = []
    for _ in 0..<count { list.append(make(&self)) }
    return list
  }

  mutating func router() -> NaiveRouter {
    var free = domains
    generator.shuffle(&free)
    var hosts: [NaiveRouter.Host] = []
    for host in 0..<(1 + generator.index(below: 4)) {
      let names = [free.removeLast(), free.removeLast()]
      var rules: [NaiveRouter.Rule] = []
      for rule in 0..<generator.index(below: 4) {
        let alternatives = list(2) { draw in [draw.condition()] + draw.list(2) { $0.condition() } }
        rules.append(.init(name: "h\(host)r\(rule)", alternatives: alternatives))
      }
      hosts.append(.init(domains: names, rules: rules))
    }
    return NaiveRouter(hosts: hosts)
  }

  mutating func request() -> NaiveRouter.Request {
    let queries = ["q=1", "q", "q=12&q=1", "r=x&q=1", "", "&&r=1", "q=1=2"]
    let authorities = [
      "a", "A", "b:80", "a.x.com", "c.b.x.com", "d.b.x.com:8080", "x.com", "z.com", "other", "q.a.x.com", ".x.com",
    ]
    return .init(
      method: one(["GET", "PUT", "POST"]), path: one(paths), query: generator.chance(0.5) ? one(queries) : nil,
      authority: one(authorities), headers: list(3) { draw in (draw.one(["x", "y", "z"]), draw.one(draw.values)) })
  }
}

private func compiled(_ condition: NaiveRouter.Condition, into match: inout RouteMatch) {
  let value = bytes(condition.value)
  let string: StringMatch =
    condition.operation == "exact" ? .exact(value) : condition.operation == "prefix" ? .prefix(value) : .present
  switch condition.kind {
  case "path", "ipath":
    match.path = condition.operation == "exact" ? .exact(value) : .prefix(value)
    match.ignorePathCase = condition.kind == "ipath"
  case "segment":
    match.path = .segmentPrefix(value)
    match.ignorePathCase = false
  case "method": match.method = string
  case "header": match.headers.append(FieldMatch(name: bytes(condition.name), match: string))
  case "without": match.withoutHeaders.append(FieldMatch(name: bytes(condition.name), match: string))
  default: match.queryParameters.append(FieldMatch(name: bytes(condition.name), match: string))
  }
}

/// One path and one method condition an alternative, as the compiled form has.
private func pruned(_ conditions: [NaiveRouter.Condition]) -> [NaiveRouter.Condition] {
  var kept: [NaiveRouter.Condition] = []
  for condition in conditions {
    let kind = ["path", "ipath", "segment"].contains(condition.kind) ? "path" : condition.kind
    let isSingle = kind == "path" || kind == "method"
    let isTaken = kept.contains { (["path", "ipath", "segment"].contains($0.kind) ? "path" : $0.kind) == kind }
    if !isSingle || !isTaken { kept.append(condition) }
  }
  return kept
}

/// Tables drawn, a hundred requests each; `MESH_ROUTER_TABLES=10000` makes a million decisions.
private let tables = ProcessInfo.processInfo.environment["MESH_ROUTER_TABLES"].flatMap(Int.init) ?? 1000
private let seeds = (ProcessInfo.processInfo.environment["MESH_SEEDS"] ?? "20260").split(separator: " ").compactMap {
  UInt64($0)
}

@Test(arguments: seeds) func `the router agrees with a naive one on a hundred random requests to each of many tables`(
  seed: UInt64
) {
  var draw = Draw(generator: SeededGenerator(seed: seed))
  var outcomes: [String: Int] = [:]
  for _ in 0..<tables {
    var naive = draw.router()
    for host in naive.hosts.indices {
      for rule in naive.hosts[host].rules.indices {
        naive.hosts[host].rules[rule].alternatives = naive.hosts[host].rules[rule].alternatives.map(pruned)
      }
    }
    let table = table(
      naive.hosts.map { host in
        let routes = host.rules.map { rule in
          route(
            rule.name,
            rule.alternatives.map { conditions in
              var match = RouteMatch()
              for condition in conditions { compiled(condition, into: &match) }
              return match
            })
        }
        return (host.domains, routes)
      }, byNeed: draw.generator.chance(0.5))
    for _ in 0..<100 {
      let asked = draw.request()
      let target = asked.path + (asked.query.map { "?" + $0 } ?? "")
      let request = TestRequest(asked.method, target, authority: asked.authority, headers: asked.headers)
      let expected = naive.route(asked)
      outcomes[expected == nil ? "none" : "some", default: 0] += 1
      let found = routeName(request, table)
      guard found == expected else {
        Issue.record("\(asked) in \(naive.hosts): \(found ?? "none"), expected \(expected ?? "none")")
        return
      }
    }
  }
  let fifth = tables * 20
  #expect((outcomes["some"] ?? 0) > fifth && (outcomes["none"] ?? 0) > fifth, "\(outcomes)")
}
