import HTTPCodec
import MeshConfig
import Primitives
import Transport

// `x-forwarded-client-cert` at gateways (Istio, `gatewayTopology.forwardClientCertDetails`; Envoy, `forward_client_cert_details`).
extension Exchange {
  private var certificateMode: ForwardedClientCertificate {
    let mode = snapshot.settings.proxy.gatewayClientCertificate ?? .undefined
    return mode == .undefined ? .sanitizeSet : mode
  }

  /// What the client has sent itself, where it may count.
  var sentCertificateField: [UInt8]? {
    switch certificateMode {
    case .alwaysForwardOnly: break
    case .forwardOnly, .appendForward: if caller.certificate == nil { return nil }
    case .sanitize, .sanitizeSet, .undefined: return nil
    }
    return head.headers.value(.forwardedClientCert).map { head.headers.copy($0) }
  }

  /// Writes what the mode says: nothing, what the client has sent, what it has proved, or both.
  func forwardCertificate(sent: [UInt8]?) {
    let mode = certificateMode
    guard sent != nil || caller.certificate != nil, mode != .sanitize else { return }
    var field = sent ?? []
    if mode == .appendForward || mode == .sanitizeSet,
      let element = caller.provenElement(snapshot.settings.proxy.headers.certificateDetails)
    {
      if !field.isEmpty { field.append(0x2C) }
      field += element
    }
    if !field.isEmpty { head.headers.set(Names.forwardedClientCert, field) }
  }
}

extension Caller {
  /// `Hash`, `Cert`, `Chain`, `Subject`, `URI` and `DNS`, as Istio's gateways say them.
  fileprivate func provenElement(_ details: MeshConfiguration.ProxyDefaults.CertificateDetails) -> [UInt8]? {
    guard let certificate else { return nil }
    if let known = certificateElement, known.details == details { return known.text }
    var text = Array("Hash=\(hexString(certificate.fingerprint))".utf8)
    if details.certificate ?? true { Self.append(";Cert", [certificate], to: &text) }
    if details.chain { Self.append(";Chain", [certificate] + certificateIssuers, to: &text) }
    if details.subject { Self.appendSubject(certificate.subject, to: &text) }
    let named = [(";URI=", details.uri ? certificate.uris : []), (";DNS=", details.dns ? certificate.dnsNames : [])]
    for (key, names) in named {
      for name in names where name.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x22 && $0 != 0x2C && $0 != 0x3B }) {
        text += Array(key.utf8) + name
      }
    }
    certificateElement = (details, text)
    return text
  }

  /// PEM, escaped as in a URL. What would not fit into a head is left out.
  private static func append(_ key: String, _ certificates: [Certificate], to text: inout [UInt8]) {
    let all = certificates.flatMap(\.pem)
    guard all.count <= ProxyLimits.toldCertificatesBytesMax else { return }
    text += Array("\(key)=\"".utf8)
    for byte in all { appendEscaped(byte, to: &text) }
    text.append(0x22)
  }

  /// A quote ends the value; control bytes have no place in a field.
  private static func appendSubject(_ subject: String, to text: inout [UInt8]) {
    text += Array(";Subject=\"".utf8)
    for byte in subject.utf8 where byte >= 0x20 && byte < 0x7F {
      if byte == 0x22 || byte == 0x5C { text.append(0x5C) }
      text.append(byte)
    }
    text.append(0x22)
  }

  private static func appendEscaped(_ byte: UInt8, to text: inout [UInt8]) {
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D: text.append(byte)
    default: text += Array("%".utf8) + Array(hexString([byte]).uppercased().utf8)
    }
  }
}
