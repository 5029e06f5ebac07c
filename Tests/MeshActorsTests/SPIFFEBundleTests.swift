import Primitives
import Testing

@testable import MeshActors
@testable import MeshConfig
@testable import Transport

/// SPIFFE Trust Domain and Bundle, section 4.
@Suite struct SPIFFEBundleTests {
  private func read(_ text: String) throws(SPIFFEBundleError) -> SPIFFEBundle { try SPIFFEBundle(parsing: Array(text.utf8)) }

  @Test func `authorities are read in order, each once, with the sequence and the hint`() throws {
    let (a, b) = (try TestSigner(), try TestSigner())
    let bundle = try SPIFFEBundle(parsing: TestSigner.bundle([a, b, a], sequence: 42, hint: 60))
    #expect(bundle.authorities == [a.certificate, b.certificate])
    #expect(bundle.sequence == 42 && bundle.refreshHint == .seconds(60))
  }

  /// As SPIRE writes it, with slashes that another writer escapes.
  @Test func `blanks, escapes and parameters that the standard does not have do no harm`() throws {
    let signer = try TestSigner()
    let x5c = signer.x5c.split(separator: "/", omittingEmptySubsequences: false).joined(separator: "\\/")
    let bundle = try read(
      """
      {
          "keys": [
              {
                  "use": "x509-svid", "kty": "RSA", "kid": "", "n": "", "e": "AQAB", "other": {"a": [1, null, true]},
                  "x5c": \(x5c)
              }
          ],
          "spiffe_sequence": 18446744073709551615,
          "other": [1.5e3]
      }
      """)
    #expect(bundle.authorities == [signer.certificate] && bundle.sequence == .max && bundle.refreshHint == nil)
  }

  /// "Clients encountering unknown key types or uses MUST ignore the corresponding JWK element."
  @Test func `keys of unknown use, type or form are left out`() throws {
    let signer = try TestSigner()
    let known = #"{"use": "x509-svid", "kty": "OKP", "x5c": \#(signer.x5c)}"#
    for other in [
      #"{"use": "jwt-svid", "kty": "EC", "kid": "a", "crv": "P-256", "x": "", "y": ""}"#, #"{"use": "X509-SVID", "kty": "EC"}"#,
      #"{"use": "wit-svid", "kty": "EC", "x5c": ["nonsense"]}"#, #"{"use": "x509-svid", "kty": "new", "x5c": 1}"#,
      #"{"use": "x509-svid", "x5c": ["nonsense"]}"#, #"{"kty": "EC"}"#, "{}", "[]", "1", "null", #""x509-svid""#,
      #"{"use": ["x509-svid"], "kty": "EC"}"#,
    ] {
      #expect(try read(#"{"keys": [\#(other), \#(known)]}"#).authorities == [signer.certificate], "\(other)")
    }
  }

  @Test func `a bundle without keys trusts nobody`() throws {
    for text in [#"{"keys": []}"#, #"{"keys": [{"use": "jwt-svid", "kty": "EC"}], "spiffe_sequence": null}"#] {
      #expect(try read(text).authorities == [])
    }
  }

  @Test func `what is meant for an authority and is none refuses the bundle, with the place`() throws {
    let signer = try TestSigner()
    let leaf = try #require(try signer.workload("spiffe://cluster.local/ns/a/sa/b").first)
    let der = Base64Form.encode(signer.certificate.der)
    func key(_ x5c: String) -> String { #"{"use": "x509-svid", "kty": "EC", "x5c": \#(x5c)}"# }
    let cases = [
      (key("[]"), "keys[1].x5c: 0 certificates"), (key(#"["\#(der)", "\#(der)"]"#), "keys[1].x5c: 2 certificates"),
      (key(#""\#(der)""#), "keys[1].x5c: a list"), (key("null"), "keys[1].x5c: a list"),
      (key("[1]"), "keys[1].x5c: not base64"),
      (key(#"["*\#(der.dropFirst())"]"#), "not base64"), (key(#"["\#(der.dropLast(2))"]"#), "not base64"),
      (key(#"["AAAA"]"#), "malformed"), (key(#"[""]"#), "malformed"),
      (key(#"["\#(Base64Form.encode(signer.certificate.der + [0, 0, 0]))"]"#), "malformed"),
      (key(#"["\#(Base64Form.encode(leaf.der))"]"#), "not an authority's"),
      (key(#"["\#(Base64Form.encode([UInt8](repeating: 0, count: 20_000)))"]"#), "more than 16384 bytes"),
      (#"{"use": "x509-svid", "kty": "EC"}"#, "keys[1].x5c: a list"),
    ]
    for (bad, reason) in cases {
      do throws(SPIFFEBundleError) {
        Issue.record("\(bad.prefix(80)) was read: \(try read(#"{"keys": [\#(key(signer.x5c)), \#(bad)]}"#).authorities.count)")
      } catch { #expect(error.description.contains(reason), "\(bad.prefix(80)): \(error)") }
    }
  }

  @Test(arguments: [
    ("", "ends early"), ("<html>", "not acceptable JSON"), ("[]", "no list 'keys'"), ("{}", "no list 'keys'"),
    (#"{"keys": {}}"#, "no list 'keys'"), (#"{"keys": [], "keys": []}"#, "stands twice"), (#"{"keys": []"#, "'}'"),
    (#"{"keys": [], "spiffe_sequence": -1}"#, "spiffe_sequence"), (#"{"keys": [], "spiffe_sequence": "1"}"#, "spiffe_sequence"),
    (#"{"keys": [], "spiffe_refresh_hint": 1.5}"#, "spiffe_refresh_hint"),
    (#"{"keys": \#(String(repeating: "[", count: 100_000))"#, "nested more than 16"),
    (#"{"keys": [\#(String(repeating: "1,", count: 40_000))1]}"#, "more than 32768 values"),
    (#"{"keys": []}"# + String(repeating: " ", count: 1 << 20), "more than 1048576 bytes"),
  ])
  func `what is no JWK set is refused`(text: String, reason: String) {
    do throws(SPIFFEBundleError) {
      Issue.record("read: \(try read(text))")
    } catch { #expect(error.description.contains(reason), "\(error)") }
  }

  @Test func `more authorities than a domain has are refused`() throws {
    let bundle = try TestSigner.bundle((0..<129).map { _ in try TestSigner() })
    #expect(throws: SPIFFEBundleError.self) { try SPIFFEBundle(parsing: bundle) }
  }

  // MARK: What it does to trust

  /// Istio, `caCertificates`: with `trustDomains` for the identities of these domains only.
  @Test func `workloads trust a bundle's authorities while the configuration names its URL`() throws {
    let (own, other) = (try TestSigner(), try TestSigner())
    let trust = try TrustBundle(trustDomain: "cluster.local", authorities: [own.certificate], version: 1)
    let url = try HTTPSURL(parsing: "https://spire.example/")
    func settings(_ trustDomains: [String]) -> MeshSettings.WorkloadTLS {
      var tls = MeshSettings.WorkloadTLS()
      tls.aliases = ["old.example"]
      tls.authorities = [MeshConfiguration.Authority(source: .bundle(url), trustDomains: trustDomains)]
      return tls
    }
    func accepts(_ trust: TrustBundle, _ identity: String, of signer: TestSigner) throws -> Bool {
      let chain = try signer.workload(identity)
      return (try? trust.verify(chain: chain, at: TestSigner.now, as: .client)) != nil
    }
    let (here, old) = ("spiffe://cluster.local/ns/a/sa/b", "spiffe://old.example/ns/a/sa/b")
    let known = [url: [other.certificate]]
    let cases: [(TrustBundle, here: Bool, old: Bool)] = [
      (trust, false, false), (trust.adding(settings([]), [:]), false, false), (trust.adding(settings([]), known), true, true),
      (trust.adding(settings(["old.example"]), known), false, true),
      (trust.adding(settings(["x.example"]), known), false, false),
      (trust.adding(MeshSettings.WorkloadTLS(), known), false, false),
    ]
    for (index, item) in cases.enumerated() {
      #expect(try accepts(item.0, here, of: other) == item.here, "\(index)")
      #expect(try accepts(item.0, old, of: other) == item.old, "\(index)")
      #expect(try accepts(item.0, here, of: own), "\(index)")
      #expect(try !accepts(item.0, "spiffe://x.example/ns/a/sa/b", of: other), "\(index)")
    }
    #expect(trust.adding(settings([]), known) != trust.adding(settings([]), [:]), "contexts are made anew")
  }
}

/// SPIFFE Federation 4.1.
@Suite struct BundlePaceTests {
  @Test(
    arguments: [
      (nil, 300), (.seconds(300), 300), (.seconds(600), 600), (.zero, 60), (.seconds(59), 60), (.seconds(3601), 3600),
      (.seconds(Int64.max), 3600),
    ] as [(Duration?, Int)])
  func `the next question follows the hint within bounds, and never comes later`(hint: Duration?, seconds: Int) {
    let interval = Duration.seconds(seconds)
    for seed in 0..<200 as Range<UInt64> {
      var (pace, generator) = (BundlePace(), SeededGenerator(seed: seed))
      let pause = pace.pauseAfterAnswer(hint: hint, &generator)
      #expect(pause >= interval * 9 / 10 && pause <= interval)
    }
  }

  @Test func `failures are asked again after 1 s, twice that, and at most a minute, whatever their number`() {
    for seed in 0..<200 as Range<UInt64> {
      var (pace, generator) = (BundlePace(), SeededGenerator(seed: seed))
      for longest in [1, 2, 4, 8, 16, 32] + [Int](repeating: 60, count: 100) {
        let pause = pace.pauseAfterFailure(&generator)
        #expect(pause >= .seconds(longest) / 2 && pause <= .seconds(longest))
      }
      _ = pace.pauseAfterAnswer(hint: nil, &generator)
      #expect(pace.pauseAfterFailure(&generator) <= .seconds(1), "an answer forgives")
    }
  }

  @Test func `nodes with different seeds do not come together`() {
    let pauses = (0..<50 as Range<UInt64>).map { seed in
      var (pace, generator) = (BundlePace(), SeededGenerator(seed: seed))
      return pace.pauseAfterAnswer(hint: nil, &generator)
    }
    #expect(Set(pauses).count == 50)
  }
}
