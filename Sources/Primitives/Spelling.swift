/// Finds the name that was probably meant.
public enum Spelling {
  /// The nearest candidate within a third of the name's length (at least one edit), case differences free.
  public static func nearest(to name: String, among candidates: [String]) -> String? {
    let written = Array(name.lowercased().utf8)
    guard written.count <= 64 else { return nil }
    var best: (distance: Int, candidate: String)?
    for candidate in candidates.sorted() {
      let distance = distance(written, Array(candidate.lowercased().utf8))
      if distance < best?.distance ?? .max { best = (distance, candidate) }
    }
    guard let best, best.distance <= max(1, written.count / 3) else { return nil }
    return best.candidate
  }

  /// Levenshtein's distance with swapped neighbours as one edit (optimal string alignment).
  private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    guard b.count <= 128 else { return .max }
    var beforeLast = [Int](repeating: 0, count: b.count + 1)
    var last = Array(0...b.count)
    for i in a.indices {
      var row = [i + 1]
      for j in b.indices {
        var best = min(last[j] + (a[i] == b[j] ? 0 : 1), row[j] + 1, last[j + 1] + 1)
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, beforeLast[j - 1] + 1) }
        row.append(best)
      }
      (beforeLast, last) = (last, row)
    }
    return last[b.count]
  }
}
