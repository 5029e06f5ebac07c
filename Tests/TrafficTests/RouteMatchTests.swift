import MeshConfig
import Primitives
import Testing
import Traffic

// Istio, VirtualService.

@Test func `the first matching rule wins`() {
  let table = table([
    (
      ["*"],
      [
        route("login", [RouteMatch(path: .prefix(bytes("/login")))]), route("rest"),
        route("never", [RouteMatch(path: .exact(bytes("/login")))]),
      ]
    )
  ])
  #expect(routeName(TestRequest("GET", "/login/x"), table) == "login")
  #expect(routeName(TestRequest("GET", "/logi"), table) == "rest")
}

@Test func `alternatives are ORed and the conditions of one are ANDed`() {
  let table = table([
    (
      ["*"],
      [
        route(
          "it",
          [
            RouteMatch(path: .prefix(bytes("/a")), method: .exact(bytes("POST"))),
            RouteMatch(path: .prefix(bytes("/b"))),
          ])
      ]
    )
  ])
  #expect(routeName(TestRequest("POST", "/a"), table) == "it")
  #expect(routeName(TestRequest("GET", "/a"), table) == nil)
  #expect(routeName(TestRequest("GET", "/b"), table) == "it")
}

@Test func `a prefix is a plain string prefix, so /v2 matches /v2example`() {
  let match = RouteMatch(path: .prefix(bytes("/v2")))
  #expect(matches(match, TestRequest("GET", "/v2example")))
  #expect(matches(match, TestRequest("GET", "/v2?x=1")))
  #expect(!matches(match, TestRequest("GET", "/v")))
  #expect(matches(RouteMatch(path: .prefix([])), TestRequest("GET", "/anything")))
}

@Test(arguments: ["/v2", "/v2/"])
func `a Gateway API prefix matches whole segments`(prefix: String) {
  let match = RouteMatch(path: .segmentPrefix(bytes(prefix)))
  for path in ["/v2", "/v2/", "/v2/x"] { #expect(matches(match, TestRequest("GET", path)), "\(path)") }
  for path in ["/v2example", "/v", "/V2"] { #expect(!matches(match, TestRequest("GET", path)), "\(path)") }
  #expect(matches(RouteMatch(path: .segmentPrefix(bytes("/"))), TestRequest("GET", "/any")))
}

@Test func `the path is compared without its query`() {
  #expect(matches(RouteMatch(path: .exact(bytes("/a"))), TestRequest("GET", "/a?x=/b")))
  #expect(!matches(RouteMatch(path: .exact(bytes("/a?x"))), TestRequest("GET", "/a?x")))
}

@Test func `ignoreUriCase acts on exact and prefix, not on regex`() throws {
  #expect(matches(RouteMatch(path: .exact(bytes("/Ab")), ignorePathCase: true), TestRequest("GET", "/aB")))
  #expect(matches(RouteMatch(path: .prefix(bytes("/AB")), ignorePathCase: true), TestRequest("GET", "/abc")))
  #expect(!matches(RouteMatch(path: .exact(bytes("/Ab"))), TestRequest("GET", "/aB")))
  let regex = RouteMatch(path: .regex(try pattern("/ab")), ignorePathCase: true)
  #expect(!matches(regex, TestRequest("GET", "/AB")))
}

@Test func `a regex must match the whole path`() throws {
  let match = RouteMatch(path: .regex(try pattern("/v[0-9]+")))
  #expect(matches(match, TestRequest("GET", "/v12")))
  #expect(!matches(match, TestRequest("GET", "/v12/x")))
  #expect(!matches(match, TestRequest("GET", "/x/v12")))
}

@Test func `method, scheme and authority are case-sensitive, and authority includes the port`() {
  #expect(matches(RouteMatch(method: .exact(bytes("GET"))), TestRequest("GET")))
  #expect(!matches(RouteMatch(method: .exact(bytes("get"))), TestRequest("GET")))
  #expect(matches(RouteMatch(scheme: .exact(bytes("https"))), TestRequest(), isHTTPS: true))
  #expect(!matches(RouteMatch(scheme: .exact(bytes("https"))), TestRequest()))
  #expect(matches(RouteMatch(authority: .exact(bytes("reviews:9080"))), TestRequest(authority: "reviews:9080")))
  #expect(!matches(RouteMatch(authority: .exact(bytes("reviews"))), TestRequest(authority: "reviews:9080")))
  #expect(matches(RouteMatch(authority: .prefix(bytes("rev"))), TestRequest(authority: "reviews:9080")))
}

private func header(_ name: String, _ match: StringMatch) -> RouteMatch {
  RouteMatch(headers: [FieldMatch(name: bytes(name), match: match)])
}

private func without(_ name: String, _ match: StringMatch) -> RouteMatch {
  RouteMatch(withoutHeaders: [FieldMatch(name: bytes(name), match: match)])
}

@Test func `headers match exactly, by prefix, by regex and by presence`() throws {
  let jason = TestRequest(headers: [("End-User", "jason")])
  #expect(matches(header("end-user", .exact(bytes("jason"))), jason))
  #expect(!matches(header("end-user", .exact(bytes("Jason"))), jason))
  #expect(matches(header("end-user", .prefix(bytes("ja"))), jason))
  #expect(matches(header("end-user", .regex(try pattern("j.*n"))), jason))
  #expect(!matches(header("end-user", .regex(try pattern("j"))), jason))
  #expect(matches(header("end-user", .present), jason))
  #expect(matches(header("x-empty", .present), TestRequest(headers: [("x-empty", "")])))
  #expect(!matches(header("end-user", .present), TestRequest()))
  #expect(!matches(header("end-user", .regex(try pattern(".*"))), TestRequest()))
}

@Test func `a header sent several times is compared as its values joined with a comma`() {
  let request = TestRequest(headers: [("x", "a"), ("y", "n"), ("x", "b"), ("x", "")])
  #expect(matches(header("x", .exact(bytes("a,b,"))), request))
  #expect(!matches(header("x", .exact(bytes("a"))), request))
}

@Test func `pseudo-headers may be matched by name`() {
  let request = TestRequest("PUT", "/p?q=1", authority: "h:1")
  #expect(matches(header(":method", .exact(bytes("PUT"))), request))
  #expect(matches(header(":path", .exact(bytes("/p?q=1"))), request))
  #expect(matches(header(":authority", .exact(bytes("h:1"))), request))
  #expect(matches(header(":scheme", .exact(bytes("http"))), request))
  #expect(!matches(header(":unknown", .present), request))
}

@Test func `withoutHeaders compares a missing header with the empty string`() throws {
  #expect(!matches(without("x", .regex(try pattern("^$"))), TestRequest()))
  #expect(!matches(without("x", .exact([])), TestRequest()))
  #expect(!matches(without("x", .prefix([])), TestRequest()))
  #expect(matches(without("x", .exact(bytes("a"))), TestRequest()))
  #expect(!matches(without("x", .exact(bytes("a"))), TestRequest(headers: [("x", "a")])))
  #expect(matches(without("x", .exact(bytes("a"))), TestRequest(headers: [("x", "b")])))
}

@Test func `the presence form of withoutHeaders means absent`() {
  #expect(matches(without("x", .present), TestRequest()))
  #expect(!matches(without("x", .present), TestRequest(headers: [("x", "")])))
}

@Test(arguments: [
  ("/?a=1", true), ("/?b=2&a=1", true), ("/?a=1&a=2", true), ("/?a=2&a=1", false), ("/?a=%31", false), ("/?A=1", false),
  ("/?ba=1", false), ("/", false), ("/?", false), ("/?a", false), ("/?a=1=", false), ("/?&a=1", true), ("/?a=1&", true),
])
func `the first value of a query parameter decides, as written`(target: String, expected: Bool) {
  let match = RouteMatch(queryParameters: [FieldMatch(name: bytes("a"), match: .exact(bytes("1")))])
  #expect(matches(match, TestRequest("GET", target)) == expected)
}

@Test func `a query parameter without a value is present and empty`() {
  #expect(matches(RouteMatch(queryParameters: [FieldMatch(name: bytes("a"), match: .present)]), TestRequest("GET", "/?a")))
  #expect(matches(RouteMatch(queryParameters: [FieldMatch(name: bytes("a"), match: .exact([]))]), TestRequest("GET", "/?a&b")))
}
