import MeshConfig
import Primitives
import Testing

@testable import Traffic

/// Finding a route by what the path can fulfil, beside looking at one after the other.
@Suite struct RouteIndexTests {
  private func work(_ request: TestRequest, _ table: RouteTable) -> Int {
    Router.work(request, RequestContext(port: 80), in: table).alternatives
  }

  @Test(arguments: [10, 10_000]) func `a decision by an exact path looks at one alternative, however many there are`(count: Int)
  {
    let routes = (0..<count).map { route("r\($0)", [RouteMatch(path: .exact(bytes("/items/\($0)")))]) } + [route("rest")]
    let table = table([(["*"], routes)])
    #expect(work(TestRequest("GET", "/items/7"), table) == 1)
    #expect(routeName(TestRequest("GET", "/items/7"), table) == "r7")
    #expect(work(TestRequest("GET", "/nothing"), table) == 1)
    #expect(routeName(TestRequest("GET", "/nothing"), table) == "rest")
  }

  @Test(arguments: [10, 10_000]) func `a decision by a prefix looks at the prefixes of the path only`(count: Int) {
    let routes = (0..<count).map { route("r\($0)", [RouteMatch(path: .prefix(bytes("/team-\($0)/")))]) } + [route("rest")]
    let table = table([(["*"], routes)])
    #expect(work(TestRequest("GET", "/team-3/a/b"), table) == 1)
    #expect(routeName(TestRequest("GET", "/team-3/a/b"), table) == "r3")
  }

  @Test func `paths that are found before a pattern do not pay for it`() throws {
    let exact = (0..<100).map { route("r\($0)", [RouteMatch(path: .exact(bytes("/items/\($0)")))]) }
    let patterns = try (0..<50).map { route("p\($0)", [RouteMatch(path: .regex(try pattern("/items/x\($0).*")))]) }
    let table = table([(["*"], exact + patterns)])
    #expect(work(TestRequest("GET", "/items/99"), table) == 1)
    #expect(routeName(TestRequest("GET", "/items/x3y"), table) == "p3")
  }

  @Test(arguments: 1...20) func `the index decides as the order of the rules does`(seed: UInt64) throws {
    var draws = SeededGenerator(seed: seed)
    let words = ["/", "/a", "/a/", "/a/b", "/A/b", "/a/bc", "/ab", "/b", "/b/c/d", "/B"]
    let patterns = try ["/a/.*", "/[ab]", ".*"].map { try pattern($0) }
    func pick<Element>(_ list: [Element]) -> Element { list[Int(draws.below(UInt64(list.count)))] }
    for _ in 0..<20 {
      let routes = (0..<(8 + Int(draws.below(30)))).map { number in
        let matches = (0..<(1 + Int(draws.below(3)))).map { _ -> RouteMatch in
          let path = bytes(pick(words))
          let kinds: [PathMatch?] = [
            .exact(path), .exact(path), .exact(path), .prefix(path), .prefix(path), .segmentPrefix(path),
            .regex(pick(patterns)), nil,
          ]
          return RouteMatch(
            path: pick(kinds), ignorePathCase: draws.below(3) == 0,
            headers: draws.below(2) == 0 ? [FieldMatch(name: bytes("x"), match: .exact(bytes("\(draws.below(2))")))] : [])
        }
        return route("r\(number)", draws.below(40) == 0 ? [] : matches)
      }
      let table = table([(["*"], routes)])
      for target in words + ["/a/b/c", "/c", "/a/B?x"] {
        let request = TestRequest("GET", target, headers: [("x", "\(draws.below(2))")])
        let expected = routes.first { route in
          route.matches.isEmpty
            || route.matches.contains { match in
              request.withBytes { match.failure(request, RequestContext(port: 80), $0) } == nil
            }
        }
        #expect(routeName(request, table) == expected?.name, "\(target), seed \(seed)")
      }
    }
  }
}
