import Primitives

/// Forms of names in configuration: DNS labels and subdomains, Kubernetes labels, hosts with wildcards, addresses.
enum NameForm {
  /// RFC 1123 label, lower case.
  static func isLabel(_ text: String) -> Bool { (try? DNSLabel(text)) != nil }

  /// Lower-case labels joined by dots (Kubernetes object names).
  static func isSubdomain(_ text: String) -> Bool {
    guard !text.isEmpty, text.utf8.count <= ConfigLimits.subdomainBytesMax else { return false }
    return text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { isLabel(String($0)) }
  }

  static func isAlphanumeric(_ b: UInt8) -> Bool { ASCII.isLowerAlphanumeric(ASCII.lowercased(b)) }

  /// 1–63 letters, digits, '-' and '_' in any case; labels of DNS names as Istio accepts them.
  private static func isHostLabel(_ text: Substring) -> Bool {
    let bytes = text.utf8
    guard (1...63).contains(bytes.count), let first = bytes.first, let last = bytes.last else { return false }
    return isAlphanumeric(first) && isAlphanumeric(last) && bytes.allSatisfy { isAlphanumeric($0) || $0 == 0x2D || $0 == 0x5F }
  }

  /// A DNS name in any case, a trailing dot allowed.
  static func isHost(_ text: String) -> Bool {
    guard !text.isEmpty, text.utf8.count <= ConfigLimits.subdomainBytesMax else { return false }
    let trimmed = text.hasSuffix(".") ? text.dropLast() : text[...]
    return trimmed.split(separator: ".", omittingEmptySubsequences: false).allSatisfy(isHostLabel)
  }

  /// A DNS name whose first label may be `*`, or begin with it (`*-x.example.com`).
  static func isWildcardHost(_ text: String) -> Bool {
    guard text.hasPrefix("*") else { return isHost(text) }
    let rest = text.dropFirst()
    let afterSeparator = rest.hasPrefix(".") || rest.hasPrefix("-") ? rest.dropFirst() : rest
    return rest.isEmpty || isHost(String(afterSeparator))
  }

  /// A problem with a Kubernetes label, or nil.
  static func labelProblem(key: String, value: String) -> String? {
    let parts = key.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard let name = parts.last, isQualifiedName(name), parts.count == 1 || isSubdomain(parts[0]) else {
      return "'\(key.prefix(80))' is not a label key"
    }
    guard value.isEmpty || isQualifiedName(value) else {
      return "'\(value.prefix(80))' is not a label value: at most 63 letters, digits, '-', '_' and '.'"
    }
    return nil
  }

  private static func isQualifiedName(_ text: String) -> Bool {
    let bytes = text.utf8
    guard (1...63).contains(bytes.count), let first = bytes.first, let last = bytes.last else { return false }
    return isAlphanumeric(first) && isAlphanumeric(last)
      && bytes.allSatisfy { isAlphanumeric($0) || $0 == 0x2D || $0 == 0x5F || $0 == 0x2E }
  }

  /// An HTTP field name (RFC 9110 token).
  static func isFieldName(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 256
      && text.utf8.allSatisfy { isAlphanumeric($0) || "!#$%&'*+-.^_`|~".utf8.contains($0) }
  }
}
