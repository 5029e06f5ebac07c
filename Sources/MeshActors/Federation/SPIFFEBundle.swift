import MeshConfig
import Primitives
import Transport

/// The X.509 authorities of a trust domain, as its bundle endpoint tells them (SPIFFE Trust Domain and Bundle, section 4).
public struct SPIFFEBundle: Hashable, Sendable {
  /// Who signs for the domain, each once, in the bundle's order; nobody in a bundle without X.509 keys.
  public let authorities: [Certificate]
  /// Which state of the bundle this is; for people. The one fetched last holds: a domain that was built anew counts from one.
  public let sequence: UInt64?
  /// How often the domain wants to be asked, unchecked.
  public let refreshHint: Duration?

  /// Reads a JWK set.
  ///
  /// Keys of unknown use, type or form are left out, as the standard wants. What is meant to be an X.509 authority and is none
  /// refuses the whole: half of a bundle is a bundle that nobody published.
  public init(parsing bytes: [UInt8]) throws(SPIFFEBundleError) {
    let document: JSONValue
    do throws(JSONError) {
      document = try JSONValue(
        parsing: bytes,
        limits: JSONValue.Limits(
          bytes: FetchLimits.bundleBytesMax, depth: FetchLimits.bundleDepthMax, values: FetchLimits.bundleValuesMax))
    } catch { throw SPIFFEBundleError(error.description) }
    guard let keys = document["keys"]?.array else { throw SPIFFEBundleError("not a JWK set: there is no list 'keys'") }
    var authorities: [Certificate] = []
    var known: Set<Certificate> = []
    for (index, key) in keys.enumerated() where Self.isForX509(key) {
      let authority = try Self.authority(key, at: index)
      if known.insert(authority).inserted { authorities.append(authority) }
      guard authorities.count <= FetchLimits.bundleAuthoritiesMax else {
        throw SPIFFEBundleError("more than \(FetchLimits.bundleAuthoritiesMax) authorities")
      }
    }
    self.authorities = authorities
    sequence = try Self.number("spiffe_sequence", of: document)
    refreshHint = try Self.number("spiffe_refresh_hint", of: document).map { .seconds(Int64(clamping: $0)) }
  }

  /// RFC 7518 6.1 and RFC 8037 name the types that certificates have keys of.
  private static func isForX509(_ key: JSONValue) -> Bool {
    key["use"]?.string == "x509-svid" && ["RSA", "EC", "OKP"].contains(key["kty"]?.string ?? "")
  }

  /// X509-SVID 6.1: one certificate, of an authority.
  private static func authority(_ key: JSONValue, at index: Int) throws(SPIFFEBundleError) -> Certificate {
    let place = "keys[\(index)].x5c"
    guard let chain = key["x5c"]?.array else { throw SPIFFEBundleError("\(place): a list of one certificate is expected") }
    guard let first = chain.first, chain.count == 1 else {
      throw SPIFFEBundleError("\(place): \(chain.count) certificates where exactly one is expected")
    }
    guard let text = first.string, let der = Base64Form.decode(text) else { throw SPIFFEBundleError("\(place): not base64") }
    do throws(CertificateError) {
      let certificate = try Certificate(der: der)
      guard certificate.isAuthority else { throw CertificateError.notAnAuthority }
      return certificate
    } catch { throw SPIFFEBundleError("\(place): \(error)") }
  }

  private static func number(_ name: String, of document: JSONValue) throws(SPIFFEBundleError) -> UInt64? {
    switch document[name] {
    case nil, .null: return nil
    case let value?:
      guard let number = value.unsigned else { throw SPIFFEBundleError("\(name): a whole number is expected") }
      return number
    }
  }
}

/// Why a document is no SPIFFE bundle.
public struct SPIFFEBundleError: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  init(_ description: String) { self.description = "not a usable SPIFFE bundle: \(description)" }
}
