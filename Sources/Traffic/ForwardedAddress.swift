/// The client's address in `x-forwarded-for` (Envoy, `xff_num_trusted_hops`).
public enum ForwardedAddress {
  /// The entry that the farthest of so many trusted proxies has written, or nil when there are fewer entries.
  ///
  /// - Parameter field: the field's value, this proxy's own entry included as the last.
  public static func client(_ field: [UInt8], trusting hops: Int) -> String? {
    let entries = field.split(separator: 0x2C, omittingEmptySubsequences: false)
    guard hops >= 0, entries.count > hops else { return nil }
    let entry = entries[entries.count - 1 - hops]
    let isBlank: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 }
    let text = entry.drop(while: isBlank).reversed().drop(while: isBlank).reversed()
    return text.isEmpty ? nil : String(decoding: Array(text), as: UTF8.self)
  }
}
