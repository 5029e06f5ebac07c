import MeshConfig
import Primitives
import Testing
import Traffic

// Istio, VirtualService.

private func rewritten(_ path: PathMatch?, _ uri: RewritePolicy.URI, _ target: String) -> String? {
  var it = route("it", path.map { [RouteMatch(path: $0)] } ?? [])
  it.rewrite = RewritePolicy(uri: uri, authority: nil)
  return text(PathRewriting.path(of: TestRequest("GET", target), it, match: path == nil ? nil : 0))
}

@Test(arguments: [
  ("/foo", "/", "/foo/bar", "//bar"), ("/foo", "/bar", "/foo", "/bar"), ("/foo/", "/", "/foo/bar", "/bar"),
  ("/v2", "/v1", "/v2example?q=1", "/v1example"), ("/", "/x/", "/y", "/x/y"),
])
func `rewrite replaces the matched prefix literally`(prefix: String, uri: String, target: String, expected: String) {
  #expect(rewritten(.prefix(bytes(prefix)), .replace(bytes(uri)), target) == expected)
}

@Test(arguments: [
  ("/foo", "/", "/foo/bar", "/bar"), ("/foo", "/", "/foo", "/"), ("/foo", "/x", "/foo/bar", "/x/bar"),
  ("/foo/", "/x/", "/foo/bar", "/x/bar"), ("/foo", "", "/foo", "/"), ("/foo", "", "/foo/bar", "/bar"),
  ("/", "/x", "/y", "/x/y"),
])
func `a Gateway API prefix is replaced on a segment boundary`(
  prefix: String, uri: String, target: String, expected: String
) {
  #expect(rewritten(.segmentPrefix(bytes(prefix)), .replace(bytes(uri)), target) == expected)
}

@Test func `rewrite replaces the whole path for exact, regex and match-less rules`() throws {
  #expect(rewritten(.exact(bytes("/a/b")), .replace(bytes("/c")), "/a/b?q") == "/c")
  #expect(rewritten(.regex(try pattern("/a.*")), .replace(bytes("/c")), "/a/b") == "/c")
  #expect(rewritten(nil, .replace(bytes("/c")), "/a/b") == "/c")
}

@Test func `uriRegexRewrite substitutes groups`() throws {
  let uri = RewritePolicy.URI.regex(try pattern("^/user/([^/]+)(/.*)?$"), substitution: bytes("/u/\\1\\2"))
  #expect(rewritten(.prefix(bytes("/user")), uri, "/user/jo/x?q=1") == "/u/jo/x")
}

@Test func `what would not be a path leaves the path alone`() {
  #expect(rewritten(.prefix(bytes("/a")), .replace([]), "/a") == nil)
  #expect(rewritten(nil, .replace(bytes("/" + String(repeating: "x", count: 20_000))), "/a") == nil)
}

private func location(
  _ redirect: RedirectPolicy, _ target: String = "/a/b?q=1", authority: String = "shop:8080", isHTTPS: Bool = false,
  path: PathMatch = .prefix(bytes("/a"))
) -> String? {
  var out: [UInt8] = []
  let it = route("it", [RouteMatch(path: path)])
  let context = RequestContext(port: 8080, isHTTPS: isHTTPS)
  PathRewriting.appendLocation(
    of: TestRequest("GET", target, authority: authority), context, it, redirect, match: 0, to: &out)
  return text(out)
}

private func redirect(
  uri: String? = nil, prefix: String? = nil, authority: String? = nil, scheme: String? = nil,
  port: RedirectPolicy.Port? = nil
) -> RedirectPolicy {
  RedirectPolicy(
    uri: uri.map(bytes), prefixRewrite: prefix.map(bytes), authority: authority.map(bytes), scheme: scheme.map(bytes),
    port: port, status: 301)
}

@Test func `a redirect replaces what it names and keeps the rest`() {
  #expect(location(redirect(uri: "/new")) == "http://shop:8080/new?q=1")
  #expect(location(redirect(prefix: "/x")) == "http://shop:8080/x/b?q=1")
  #expect(location(redirect(authority: "b.com")) == "http://b.com/a/b?q=1")
  #expect(location(redirect(scheme: "https")) == "https://shop/a/b?q=1")
  #expect(location(redirect(prefix: "/"), "/a/b", path: .segmentPrefix(bytes("/a"))) == "http://shop:8080/b")
}

@Test func `the port of a Location is explicit, derived, or left out when it is the scheme's`() {
  #expect(location(redirect(port: .number(9000))) == "http://shop:9000/a/b?q=1")
  #expect(location(redirect(port: .number(80))) == "http://shop/a/b?q=1")
  #expect(location(redirect(scheme: "https", port: .number(443))) == "https://shop/a/b?q=1")
  #expect(location(redirect(scheme: "https", port: .number(80))) == "https://shop:80/a/b?q=1")
  #expect(location(redirect(port: .fromProtocolDefault)) == "http://shop/a/b?q=1")
  #expect(location(redirect(authority: "b.com", port: .fromRequestPort)) == "http://b.com:8080/a/b?q=1")
  #expect(location(redirect(port: .fromRequestPort), authority: "shop") == "http://shop:8080/a/b?q=1")
}

// MARK: Headers

private struct Fields: HeaderFields {
  var lines: [String]
  mutating func removeHeader(named name: [UInt8]) { lines.removeAll { $0.hasPrefix("\(text(name) ?? ""):") } }
  mutating func addHeader(named name: [UInt8], value: [UInt8]) { lines.append("\(text(name) ?? ""):\(text(value) ?? "")") }
}

private func field(_ name: String, _ value: String) -> HeaderOperations.Field { .init(name: bytes(name), value: bytes(value)) }

@Test func `header operations apply in the order remove, set, add`() {
  let operations = HeaderOperations(
    remove: [bytes("x"), bytes("gone")], set: [field("x", "set"), field("y", "set")],
    add: [field("x", "add"), field("gone", "back")])
  var fields = Fields(lines: ["x:1", "x:2", "y:1", "y:2", "gone:1", "z:1"])
  operations.apply(to: &fields)
  #expect(fields.lines == ["z:1", "x:set", "y:set", "x:add", "gone:back"])
}

@Test func `host is not a header field: it rewrites the authority, set before add, route before destination`() {
  var it = route("it")
  it.action = .forward([
    WeightedDestination(
      cluster: 0, clusterName: "c", weight: 1,
      requestHeaders: HeaderOperations(remove: [], set: [field("host", "destination")], add: []))
  ])
  #expect(text(it.authority(destination: 0)) == "destination")
  it.requestHeaders = HeaderOperations(remove: [], set: [], add: [field(":authority", "added")])
  #expect(text(it.authority(destination: 0)) == "added")
  it.requestHeaders = HeaderOperations(remove: [], set: [field("host", "set")], add: [field("host", "added")])
  #expect(text(it.authority(destination: 0)) == "set")
  it.rewrite = RewritePolicy(uri: nil, authority: bytes("rewritten"))
  #expect(text(it.authority(destination: 0)) == "rewritten")
  var fields = Fields(lines: ["host:a"])
  it.requestHeaders.apply(to: &fields)
  #expect(fields.lines == ["host:a"])
}
