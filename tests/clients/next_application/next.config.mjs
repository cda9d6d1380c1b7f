/** @type {import("next").NextConfig} */
export default { distDir: "build", turbopack: { root: import.meta.dirname } };
