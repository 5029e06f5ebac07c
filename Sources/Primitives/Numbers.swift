/// Lower-case hexadecimal text of bytes, for digests and ids people read.
public func hexString(_ bytes: some Sequence<UInt8>) -> String {
  let digits: [UInt8] = Array("0123456789abcdef".utf8)
  var text: [UInt8] = []
  for byte in bytes {
    text.append(digits[Int(byte >> 4)])
    text.append(digits[Int(byte & 15)])
  }
  return String(decoding: text, as: UTF8.self)
}

/// Parses decimal digits only: no sign, blank or other script, and no overflow (`Int("+5")` is 5, which smuggles).
public func parseDecimal(_ bytes: some Collection<UInt8>, max: UInt64 = .max) -> UInt64? {
  guard !bytes.isEmpty, bytes.count <= 20 else { return nil }
  var value: UInt64 = 0
  for byte in bytes {
    guard ASCII.isDigit(byte) else { return nil }
    let (product, overflow) = value.multipliedReportingOverflow(by: 10)
    let (sum, carry) = product.addingReportingOverflow(UInt64(byte - 0x30))
    if overflow || carry || sum > max { return nil }
    value = sum
  }
  return value
}
