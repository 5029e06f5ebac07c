import Testing

@testable import MeshConfig

@Suite struct DecodingTests {
  @Test func `an unknown field is an error with its line and the nearest name`() throws {
    let text = """
      apiVersion: networking.istio.io/v1
      kind: VirtualService
      metadata: {name: reviews}
      spec:
        hosts: [reviews]
        http:
        - route:
          - destination:
              host: reviews
              subset: v1
            weigth: 80
      """
    let changeSet = Fixture.changeSet(text)
    let finding = try #require(changeSet.findings.first { $0.severity == .error })
    #expect(finding.line == 11)
    #expect(finding.path == "spec.http[0].route[0].weigth")
    #expect(finding.hint == "did you mean 'weight'?")
    #expect(finding.object == "VirtualService default/reviews")
    #expect(finding.description.hasPrefix("test.yaml:11:7: error [IST0106]"))
    #expect(changeSet.objects.isEmpty)
  }

  @Test func `every wrong field is reported in one pass`() {
    let spec = """
      hosts: reviews
      http:
      - timeout: 7
        retries: {attempts: many, retryOn: 5xx, nope: 1}
        match: [{uri: {exact: /a, prefix: /b}}, {port: 70000}, {headers: {x: {regex: '('}}}]
        route: [{destination: {host: a, port: {}}, weight: -1}]
      """
    let changeSet = Fixture.changeSet(Fixture.object("VirtualService", "x", spec: spec))
    let paths = Set(changeSet.findings.map(\.path))
    for path in [
      "spec.hosts", "spec.http[0].timeout", "spec.http[0].retries.attempts", "spec.http[0].retries.nope",
      "spec.http[0].match[0].uri", "spec.http[0].match[1].port", "spec.http[0].match[2].headers.x.regex",
      "spec.http[0].route[0].destination.port.number", "spec.http[0].route[0].weight",
    ] { #expect(paths.contains(path), "\(path) in \(paths.sorted())") }
  }

  @Test func `a number where a string belongs asks for quotes`() {
    let spec = "host: reviews\nsubsets: [{name: v1, labels: {version: 1.0}}]"
    let changeSet = Fixture.changeSet(Fixture.object("DestinationRule", "x", spec: spec))
    #expect(changeSet.findings.first?.hint == "put it in quotes")
  }

  @Test(arguments: [
    ("7s", 7_000_000_000), ("1.5s", 1_500_000_000), ("250ms", 250_000_000), ("1h30m", 5_400_000_000_000),
    ("0.5h", 1_800_000_000_000),
    ("0", 0), ("0s", 0), ("10us", 10_000), ("1.000000001s", 1_000_000_001), (".5s", 500_000_000),
  ])
  func `durations are read as Go reads them`(text: String, nanoseconds: Int) {
    #expect(DurationForm.parse(text) == .nanoseconds(nanoseconds))
  }

  @Test(arguments: ["", "7", "s", "-1s", "1x", "1.s.", "99999999999999h", "1s2", "1 s", "9223372037s9223372037s"])
  func `malformed durations are refused`(text: String) { #expect(DurationForm.parse(text) == nil) }

  @Test(arguments: ["1.2.3.4", "::", "::1", "fe80::1", "2001:db8::8:800:200c:417a", "::ffff:1.2.3.4", "1:2:3:4:5:6:7:8"])
  func `addresses are recognised`(text: String) { #expect(AddressForm.isAddress(text)) }

  @Test(arguments: [
    "", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", ":", ":::", "1::2::3", "fe80::1%eth0", "1:2:3:4:5:6:7", "12345::",
    "1:2:3:4:5:6:7:8:9", "g::", "1.2.3.4::",
  ])
  func `other text is no address`(text: String) { #expect(!AddressForm.isAddress(text)) }

  @Test(arguments: [
    ("reviews", "reviews.prod.svc.cluster.local"), ("reviews.other", "reviews.other"),
    ("Reviews", "reviews.prod.svc.cluster.local"),
    ("*", "*"), ("*.x.com", "*.x.com"), ("10.0.0.1", "10.0.0.1"), ("a.b.c.", "a.b.c"),
  ])
  func `short names are completed with the rule's namespace`(host: String, expected: String) {
    #expect(HostName.resolve(host, namespace: "prod", domain: "cluster.local") == expected)
  }

  @Test(arguments: [
    ("*", "a", true), ("*.x.com", "a.x.com", true), ("*.x.com", "a.b.x.com", true), ("*.x.com", "x.com", false),
    ("*.x.com", "*.a.x.com", true), ("*.a.x.com", "*.x.com", false), ("a", "a", true), ("a", "b", false),
    ("*.x.com", ".x.com", false),
  ])
  func `a wildcard is a plain suffix`(pattern: String, host: String, expected: Bool) {
    #expect(HostName.covers(pattern, host) == expected)
  }

  @Test func `lists are expanded and foreign kinds are skipped with a reason`() {
    let text = """
      apiVersion: v1
      kind: List
      items:
      - {apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}
      - {apiVersion: apps/v1, kind: Deployment, metadata: {name: b}}
      - {apiVersion: gateway.networking.x-k8s.io/v1alpha1, kind: XMesh, metadata: {name: c}, spec: {}}
      """
    let changeSet = Fixture.changeSet(text)
    #expect(changeSet.objects.map(\.key.description) == ["ServiceAccount default/a"])
    #expect(changeSet.skipped.map(\.isMesh) == [false, true])
    #expect(
      changeSet.skipped.map { "\($0.kind) \($0.namespace)/\($0.name)" } == [
        "Deployment default/b", "XMesh default/c",
      ])
    #expect(changeSet.findings.map(\.code) == ["MESH0002", "MESH0001"])
    #expect(!changeSet.hasErrors)
  }

  @Test(arguments: [
    ("networking.istio.io/v1", "VirtualServce", "did you mean 'VirtualService'?"),
    ("networking.istio.io/v2", "VirtualService", "networking.istio.io/v1beta1"),
  ])
  func `misspelt kinds and versions are errors with a hint`(version: String, kind: String, hint: String) {
    let changeSet = Fixture.changeSet("apiVersion: \(version)\nkind: \(kind)\nmetadata: {name: x}\nspec: {}\n")
    #expect(changeSet.findings.first?.hint?.contains(hint) == true)
    #expect(changeSet.hasErrors)
  }

  @Test func `canonical bytes do not depend on the order of fields or on the server's metadata`() throws {
    let a = Fixture.changeSet(
      "apiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\nmetadata: {name: r, uid: x}\nspec: {host: a, exportTo: ['.']}\nstatus: {}\n"
    )
    let b = Fixture.changeSet(
      "kind: DestinationRule\napiVersion: networking.istio.io/v1\nspec: {exportTo: ['.'], host: a}\nmetadata: {namespace: default, name: r}\n"
    )
    let object = try #require(a.objects.first)
    #expect(object.canonical == b.objects.first?.canonical)
    #expect(try MeshObject.decode(canonical: object.canonical) == object)
    let again = Fixture.changeSet(object.yaml)
    #expect(again.objects == [object])
  }

  @Test func `an object written twice is an error that names both places`() {
    let object = Fixture.object("DestinationRule", "r", spec: "host: a")
    let changeSet = Fixture.changeSet(object + object)
    #expect(changeSet.findings.first?.reason.contains("test.yaml:1") == true)
  }
}
