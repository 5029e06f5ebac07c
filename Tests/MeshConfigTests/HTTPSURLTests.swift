import Primitives
import Testing

@testable import MeshConfig

@Suite struct HTTPSURLTests {
  @Test(arguments: [
    ("https://a.example", "https://a.example/", "a.example", "a.example"),
    ("HTTPS://A.Example:443/B?c=D", "https://a.example/B?c=D", "a.example", "a.example"),
    ("https://a.example:8443/b", "https://a.example:8443/b", "a.example", "a.example:8443"),
    ("https://a?b=/", "https://a/?b=/", "a", "a"),
    ("https://a_b.c-d/%7e;x=(1)", "https://a_b.c-d/%7e;x=(1)", "a_b.c-d", "a_b.c-d"),
    ("https://127.0.0.1/", "https://127.0.0.1/", "127.0.0.1", "127.0.0.1"),
    ("https://[2001:DB8::1]:99/", "https://[2001:db8::1]:99/", "2001:db8::1", "[2001:db8::1]:99"),
    ("https://[::1]", "https://[::1]/", "::1", "[::1]"),
    ("https://1.example/a@b:c", "https://1.example/a@b:c", "1.example", "1.example"),
  ])
  func `a URL is read`(text: String, canonical: String, host: String, authority: String) throws {
    let url = try HTTPSURL(parsing: text)
    #expect(url.description == canonical && url.host == host && url.authority == authority)
    #expect(try HTTPSURL(parsing: canonical) == url)
  }

  @Test(arguments: [
    ("", "not an https URL"), ("http://a", "not an https URL"), ("https:/a", "not an https URL"),
    ("a.example", "not an https URL"),
    ("https://", "without a host"), ("https:///a", "without a host"), ("https://:443/", "without a host"),
    ("https://user@a/", "a user or a password"), ("https://user:word@a/", "a user or a password"),
    ("https://a:/", "not a port"), ("https://a:0/", "not a port"), ("https://a:65536/", "not a port"),
    ("https://a:8a/", "not a port"),
    ("https://::1/", "neither a host name"), ("https://[::1/", "IPv6 address in brackets"),
    ("https://[1.2.3.4]/", "in brackets"),
    ("https://[fe80::1%25eth0]/", "in brackets"), ("https://[]/", "in brackets"), ("https://[::1]x/", "in brackets"),
    ("https://127.1/", "neither a host name"), ("https://1.2.3.256/", "neither a host name"),
    ("https://0x7f.1/", "neither a host name"),
    ("https://a..b/", "neither a host name"), ("https://a.example./", "neither a host name"),
    ("https://-a/", "neither a host name"),
    ("https://a b/", "neither a host name"), ("https://a%2eb/", "neither a host name"),
    ("https://bücher.example/", "neither a host name"),
    ("https://a\\b/", "neither a host name"), ("https://a/#b", "fragment"), ("https://a#b", "fragment"),
    ("https://a/ b", "byte 32"),
    ("https://a/\r\nhost: b", "byte 13"), ("https://a/ü", "byte 195"), ("https://a/%", "hexadecimal"),
    ("https://a/%4", "hexadecimal"),
    ("https://a/%zz", "hexadecimal"), ("https://a/<b>", "byte 60"),
    ("https://a/" + String(repeating: "b", count: 2_048), "2048 bytes"),
    ("https://" + String(repeating: "a", count: 64), "neither a host name"),
  ])
  func `what is not one is refused with the reason`(text: String, expected: String) {
    do throws(NameError) {
      Issue.record("\(text) was read as \(try HTTPSURL(parsing: text))")
    } catch { #expect(error.description.contains(expected), "\(text): \(error)") }
  }

  /// RFC 9110 10.2.2.
  @Test func `a redirect leads to another URL or to a path of the same server`() throws {
    let url = try HTTPSURL(parsing: "https://a.example:99/b/c?d")
    #expect(try url.redirected(to: "/e?f").description == "https://a.example:99/e?f")
    #expect(try url.redirected(to: "https://g/").description == "https://g/")
    for location in ["http://a.example/", "//g/h", "h", "", "https://u@g/", "/#x", "/a b"] {
      #expect(throws: NameError.self, "\(location)") { try url.redirected(to: location) }
    }
  }
}
