import Glibc
import Primitives
import Testing

@testable import Transport

/// Where the certificates of Istio's samples are; nil when this checkout stands without them.
private let samples: String? = {
  let named = getenv("MESH_CONFORMANCE").map { String(cString: $0) }
  var root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
  if let real = realpath(root + "/Tests", nil) {
    root = String(cString: real).split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    free(real)
  }
  let path = (named ?? root + "/../shared/conformance") + "/identity/certs"
  return access(path, R_OK) == 0 ? path : nil
}()

@Suite(.enabled(if: samples != nil)) struct TLSConformanceTests {
  /// Within the validity of all samples.
  private let now: Int64 = 1_790_000_000

  private func load(_ file: String) throws -> [Certificate] { try Certificate.load("\(#require(samples))/\(file)") }

  @Test(arguments: ["foo", "bar"])
  func `Istio's workload certificates name their workload under their roots`(name: String) throws {
    let chain = try load("workload-\(name)-cert.pem")
    let key = try PrivateKey(contentsOf: "\(#require(samples))/workload-\(name)-key.pem")
    _ = try TLSIdentity(chain: chain, key: key)
    let id = try #require(chain.first).spiffeID()
    #expect(id.workload?.namespace == name && id.workload?.serviceAccount == name)
    let roots = try load("workload-\(name)-root-certs.pem")
    let bundle = try TrustBundle(trustDomain: id.trustDomain, authorities: roots, version: 1)
    #expect(try bundle.verify(chain: chain, at: now, as: .client) == id)
    #expect(throws: CertificateError.expired) { try bundle.verify(chain: chain, at: 2_200_000_000, as: .client) }
    let foreign = try TrustBundle(trustDomain: id.trustDomain, authorities: load("root-cert-alt.pem"), version: 1)
    #expect(throws: CertificateError.unknownAuthority) { try foreign.verify(chain: chain, at: now, as: .client) }
  }

  @Test func `a plugged-in authority signs workloads under the operator's root`() throws {
    let directory = try #require(samples)
    let certificate = try #require(load("ca-cert.pem").first)
    let key = try PrivateKey(contentsOf: "\(directory)/ca-key.pem")
    let signer = try CertificateSigner(certificate: certificate, key: key, intermediates: load("cert-chain.pem"))
    let id = try SPIFFEID(parsing: "spiffe://cluster.local/ns/default/sa/reviews")
    let leaf = try signer.issue(to: PrivateKey.generate().publicKey, identity: id, now: now, lifetime: 3600)
    let bundle = try TrustBundle(trustDomain: "cluster.local", authorities: load("root-cert-combined-2.pem"), version: 1)
    #expect(try bundle.verify(chain: [leaf] + signer.intermediates, at: now, as: .server) == id)
  }

  @Test func `an authority's key that is another's is refused`() throws {
    let certificate = try #require(load("ca-cert-alt-2.pem").first)
    let key = try PrivateKey(contentsOf: "\(#require(samples))/ca-key-alt-2.pem")
    #expect(throws: CertificateError.keyMismatch) { try CertificateSigner(certificate: certificate, key: key) }
  }
}
